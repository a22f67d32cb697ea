//! `flotilla token`: invitations for new gateways.

use anyhow::Result;
use clap::{Args, Subcommand};
use fleet_client::{CommandOptions, Invitation};
use fleet_protocol::{
    AdminOp, Noun, QueryTarget, duration,
    limits::{TOKEN_TTL_MS_MAX, TOKEN_TTL_MS_MIN},
    query::Page,
    record::TokenBody,
};
use fleet_state::{TokenId, limits::TOKEN_USES_MAX};
use serde::Serialize;

use super::listed;
use crate::{
    exit::{self, Exit, Stop},
    output::{Table, put, say, time},
    session::Session,
    write::RetryArgs,
};

/// Join tokens
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Make a join token and print it, once
    Create(CreateArgs),
    /// List join tokens, without their secrets
    Ls,
    /// Make a join token useless
    Revoke {
        /// Its id
        id: TokenId,
        #[command(flatten)]
        retry: RetryArgs,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// How many gateways may join with it
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=i64::from(TOKEN_USES_MAX)))]
    uses: u32,
    /// How long it is good for, as in 10m, 2h or 7d
    #[arg(long, default_value = "1h", value_parser = ttl)]
    ttl: u64,
    /// What it is for
    #[arg(long, default_value = "")]
    note: String,
    /// A NATS server as the new gateway reaches it [default: those given with --server]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    nats: Vec<String>,
    /// A gateway on the mesh as the new one reaches it, as in /ip4/192.168.1.7/tcp/4244/p2p/12D3…
    /// [default: those the site knows]
    #[arg(long, value_name = "ADDRESS", value_delimiter = ',')]
    mesh: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Created<'a> {
    token: &'a str,
    id: String,
    site: String,
    uses: u32,
    ttl: String,
    nats: &'a [String],
    mesh: &'a [String],
    revision: u64,
}

fn ttl(text: &str) -> Result<u64, String> {
    duration::parse_ms(text, TOKEN_TTL_MS_MIN, TOKEN_TTL_MS_MAX).map_err(|error| error.to_string())
}

pub(crate) async fn run(command: TokenCommand, session: &Session) -> Result<()> {
    match command {
        TokenCommand::Create(args) => create(args, session).await,
        TokenCommand::Ls => list(session).await,
        TokenCommand::Revoke { id, retry } => {
            let client = session.client().await?;
            let payload = format!("{{\"id\":\"{id}\"}}");
            retry.admin(session, &client, AdminOp::TokenRevoke, (id.to_string(), payload)).await
        }
    }
}

async fn create(args: CreateArgs, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let invitation = Invitation {
        uses: args.uses,
        ttl_ms: args.ttl,
        note: args.note,
        nats_urls: args.nats,
        mesh: args.mesh,
    };
    // A token's secret is made anew each time, so an old request id would stand for another token.
    let invited = match client.invite(&invitation, &CommandOptions::default()).await? {
        Ok(invited) => invited,
        Err(outcome) => {
            let stop = exit::stop_of_outcome(&outcome).map(without_retry);
            return stop.map_or(Ok(()), |stop| Err(stop.into()));
        }
    };
    if session.form() == crate::output::Form::Table {
        let times = if args.uses == 1 { "once".to_owned() } else { format!("{} times", args.uses) };
        say(&format!(
            "Good for {}, {times}. On the new gateway: flotilla-agent join TOKEN",
            duration::format_ms(args.ttl)
        ));
        return put(&format!("{}\n", invited.text));
    }
    let created = Created {
        token: &invited.text,
        id: invited.token.token.to_string(),
        site: invited.token.site.to_string(),
        uses: args.uses,
        ttl: duration::format_ms(args.ttl),
        nats: &invited.token.nats_urls,
        mesh: &invited.token.mesh,
        revision: invited.committed.revision,
    };
    session.form().print(&created, || Table::facts([("token", invited.text.clone())]))
}

/// The end of a token that perhaps was made. Its secret is lost with this program, so making it again
/// is no use.
fn without_retry(stop: Stop) -> Stop {
    if stop.exit != Exit::Unknown {
        return stop;
    }
    stop.with_hint("Make another one. If this one was made (flotilla token ls), nobody knows its secret; flotilla token revoke ID takes it away.")
}

async fn list(session: &Session) -> Result<()> {
    let client = session.client().await?;
    let target = QueryTarget::List { noun: Noun::Token, area: None };
    let found: Page<TokenBody> =
        client.list(&target, listed::whole_page(), session.consistency()).await?;
    session.say_age(found.revision, found.age_ms);
    session.form().print(&found.items, || {
        let mut table = Table::new(&["ID", "USES LEFT", "EXPIRES", "USED BY", "NOTE"]);
        for token in &found.items {
            let users: Vec<String> = token.used_by.iter().map(ToString::to_string).collect();
            table.row([
                token.id.clone(),
                token.uses_left.to_string(),
                time(token.expires_wall_ms),
                users.join(","),
                token.note.clone(),
            ]);
        }
        table
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_that_perhaps_was_made_is_not_asked_for_again() {
        let hint = "Send it again with --request-id r.";
        let hinted = |exit| without_retry(Stop::new(exit, "m").with_hint(hint)).hint.unwrap();
        let unknown = hinted(Exit::Unknown);
        assert!(!unknown.contains("--request-id") && unknown.contains("token revoke"), "{unknown}");
        assert_eq!(hinted(Exit::Rejected), hint);
    }
}
