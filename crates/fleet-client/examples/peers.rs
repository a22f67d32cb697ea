//! The load of `flotilla bench` against the systems that a site is compared with.
//!
//! ```text
//! peers etcd      http://127.0.0.1:2379   --clients 64 --seconds 5
//! peers jetstream nats://127.0.0.1:4222   --clients 64 --seconds 5
//! peers echo      nats://127.0.0.1:4222   --clients 64 --seconds 5
//! ```
//!
//! etcd is spoken to as its own clients do: gRPC `KV.Put` over a few HTTP/2 connections (the two
//! small protobuf messages are written by hand). For JetStream every write is a publication to a
//! subject of a key-value bucket with three replicas, answered by its acknowledgement; the bucket
//! is made if it is missing. `echo` is a bare NATS request answered by one responder: what the
//! transport alone costs. One JSON line, in the form of `flotilla bench`. A write that is not answered
//! within `--timeout-ms` (10,000) is given up, and the client goes on with the next one.
//! `docs/performance.md` says how the peers are started.

use std::time::Duration;

use anyhow::{Context as _, bail};
use async_nats::Client as Nats;
use async_nats::client::RequestErrorKind;
use bytes::{BufMut as _, Bytes, BytesMut};
use fleet_client::{BenchPlan, BenchTarget, WriteEnd, run_load};
use futures_util::StreamExt as _;
use h2::client::SendRequest;

const CONNECTIONS_MAX: usize = 4;
const KEYS: usize = 1024;
const BUCKET: &str = "bench";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [peer, url, options @ ..] = arguments.as_slice() else {
        bail!("usage: peers etcd|jetstream|echo URL [--clients N] [--seconds S] [--timeout-ms T]");
    };
    let plan = BenchPlan {
        clients: number(options, "--clients", 64)?,
        duration: Duration::from_secs(number(options, "--seconds", 5)? as u64),
        size_bytes: 128,
        keys: KEYS,
        timeout: Duration::from_millis(number(options, "--timeout-ms", 10_000)? as u64),
    };
    let report = match peer.as_str() {
        "etcd" => run_load(etcd(url, &plan).await?, plan).await?,
        "jetstream" => run_load(jetstream(url, &plan).await?, plan).await?,
        "echo" => run_load(echo(url, &plan).await?, plan).await?,
        other => bail!("{other} is not a peer that is known here"),
    };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn number(options: &[String], name: &str, default: usize) -> anyhow::Result<usize> {
    match options.iter().position(|option| option == name) {
        None => Ok(default),
        Some(at) => {
            let text = options.get(at + 1).with_context(|| format!("{name} needs a number"))?;
            text.parse().with_context(|| format!("{name} {text} is not a number"))
        }
    }
}

/// The answer to a write, if it comes in time.
async fn in_time<E: std::fmt::Display>(
    limit: Duration,
    write: impl Future<Output = Result<WriteEnd, E>>,
) -> WriteEnd {
    match tokio::time::timeout(limit, write).await {
        Ok(Ok(end)) => end,
        Ok(Err(error)) => WriteEnd::Unknown(error.to_string()),
        Err(_) => WriteEnd::Unknown(format!("no answer within {limit:?}")),
    }
}

// etcd

struct Etcd {
    connection: SendRequest<Bytes>,
    authority: String,
    number: usize,
    timeout: Duration,
}

async fn etcd(url: &str, plan: &BenchPlan) -> anyhow::Result<Vec<Etcd>> {
    let authorities: Vec<String> =
        url.split(',').map(|one| one.trim_start_matches("http://").to_owned()).collect();
    let mut connections = Vec::new();
    for authority in authorities.iter().cycle().take(plan.clients.clamp(1, CONNECTIONS_MAX)) {
        let socket = tokio::net::TcpStream::connect(authority).await.context("etcd")?;
        socket.set_nodelay(true)?;
        let (sender, connection) = h2::client::handshake(socket).await?;
        tokio::spawn(connection);
        connections.push((sender, authority.clone()));
    }
    let targets = (0..plan.clients).zip(connections.iter().cycle());
    Ok(targets
        .map(|(number, (connection, authority))| Etcd {
            connection: connection.clone(),
            authority: authority.clone(),
            number,
            timeout: plan.timeout,
        })
        .collect())
}

impl Etcd {
    /// `PutRequest { bytes key = 1; bytes value = 2; }` behind gRPC's five bytes.
    fn request(&self, count: usize, value: &Bytes) -> Bytes {
        let key = format!("bench/k{}", (self.number + count * 7) % KEYS);
        let mut message = BytesMut::new();
        for (tag, bytes) in [(0x0a, key.as_bytes()), (0x12, value)] {
            message.put_u8(tag);
            put_varint(&mut message, bytes.len());
            message.put_slice(bytes);
        }
        let mut framed = BytesMut::with_capacity(message.len() + 5);
        framed.put_u8(0);
        framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
        framed.put(message);
        framed.freeze()
    }

    async fn put(&self, count: usize, value: &Bytes) -> anyhow::Result<WriteEnd> {
        let request = http::Request::post(format!("http://{}/etcdserverpb.KV/Put", self.authority))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())?;
        let mut connection = match self.connection.clone().ready().await {
            Ok(connection) => connection,
            // Its member is gone, and nothing was sent.
            Err(error) => return Ok(WriteEnd::Refused(error.to_string())),
        };
        let (response, mut body) = connection.send_request(request, false)?;
        body.send_data(self.request(count, value), true)?;
        let mut body = response.await?.into_body();
        while let Some(chunk) = body.data().await {
            let length = chunk?.len();
            body.flow_control().release_capacity(length)?;
        }
        let trailers = body.trailers().await?;
        let status = trailers.as_ref().and_then(|t| t.get("grpc-status"));
        match status.map(|s| s.as_bytes()) {
            Some(b"0") => Ok(WriteEnd::Done),
            other => bail!("grpc status {other:?}"),
        }
    }
}

fn put_varint(to: &mut BytesMut, mut number: usize) {
    while number >= 0x80 {
        to.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    to.put_u8((number & 0x7f) as u8);
}

impl BenchTarget for Etcd {
    async fn write(&self, count: usize, value: Bytes) -> WriteEnd {
        in_time(self.timeout, self.put(count, &value)).await
    }
}

// NATS

async fn connections(url: &str, plan: &BenchPlan) -> anyhow::Result<Vec<Nats>> {
    let mut clients = Vec::new();
    let servers: Vec<&str> = url.split(',').collect();
    for server in servers.iter().cycle().take(plan.clients.clamp(1, CONNECTIONS_MAX)) {
        clients.push(async_nats::connect(*server).await.context("NATS")?);
    }
    Ok(clients)
}

struct Asked {
    client: Nats,
    subject: String,
    spread: bool,
    number: usize,
    acknowledged: bool,
    timeout: Duration,
}

impl BenchTarget for Asked {
    async fn write(&self, count: usize, value: Bytes) -> WriteEnd {
        let subject = if self.spread {
            format!("{}{}", self.subject, (self.number + count * 7) % KEYS)
        } else {
            self.subject.clone()
        };
        let request = self.client.request(subject, value);
        let answer = async {
            match request.await {
                Ok(reply) if self.acknowledged && !contains(&reply.payload, b"\"seq\"") => {
                    Ok(WriteEnd::Refused(String::from_utf8_lossy(&reply.payload).into_owned()))
                }
                Ok(_) => Ok(WriteEnd::Done),
                // Nobody has heard it, and asking again at once would only keep the machine busy.
                Err(error) if error.kind() == RequestErrorKind::NoResponders => {
                    Ok(WriteEnd::Refused(error.to_string()))
                }
                Err(error) => Err(error),
            }
        };
        in_time(self.timeout, answer).await
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

async fn jetstream(url: &str, plan: &BenchPlan) -> anyhow::Result<Vec<Asked>> {
    let clients = connections(url, plan).await?;
    let first = clients.first().context("no connection")?;
    let bucket = format!(
        r#"{{"name":"KV_{BUCKET}","subjects":["$KV.{BUCKET}.>"],"num_replicas":3,"storage":"file","max_msgs_per_subject":1,"allow_rollup_hdrs":true,"deny_delete":true,"discard":"new","allow_direct":true}}"#
    );
    let made = first.request(format!("$JS.API.STREAM.CREATE.KV_{BUCKET}"), bucket.into()).await?;
    if contains(&made.payload, b"\"error\"") {
        bail!("the bucket could not be made: {}", String::from_utf8_lossy(&made.payload));
    }
    let subject = format!("$KV.{BUCKET}.k");
    let asked = |(number, client): (usize, &Nats)| Asked {
        client: client.clone(),
        subject: subject.clone(),
        spread: true,
        number,
        acknowledged: true,
        timeout: plan.timeout,
    };
    Ok((0..plan.clients).zip(clients.iter().cycle()).map(asked).collect())
}

async fn echo(url: &str, plan: &BenchPlan) -> anyhow::Result<Vec<Asked>> {
    let responder = async_nats::connect(url.split(',').next().unwrap_or(url)).await?;
    let mut requests = responder.subscribe("bench.echo").await?;
    responder.flush().await?;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            if let Some(reply) = request.reply {
                // A reply that can't be sent is seen by who waits for it.
                let _ = responder.publish(reply, request.payload).await;
            }
        }
    });
    let clients = connections(url, plan).await?;
    let asked = |(number, client): (usize, &Nats)| Asked {
        client: client.clone(),
        subject: "bench.echo".to_owned(),
        spread: false,
        number,
        acknowledged: false,
        timeout: plan.timeout,
    };
    Ok((0..plan.clients).zip(clients.iter().cycle()).map(asked).collect())
}
