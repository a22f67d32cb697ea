//! Making join tokens. The secret is made here and never leaves this machine but inside the token.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet_protocol::{
    AdminOp, Consistency, JoinToken, QueryTarget, hex,
    limits::{TOKEN_MESH_MAX, TOKEN_URL_BYTES_MAX},
    mesh::NodeMesh,
    record::SiteBody,
    reply::Committed,
};
use fleet_state::{TokenId, credential::token_key};

use crate::{Client, ClientError, CommandOptions, Outcome, connect::redacted};

/// How often gateways are asked where they listen, while they have yet to say so.
const LISTENING_ASKS: u32 = 10;
const LISTENING_PAUSE: Duration = Duration::from_millis(200);

/// What a join token is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invitation {
    /// How many nodes may join with it.
    pub uses: u32,
    /// How long it is good for.
    pub ttl_ms: u64,
    /// Free text.
    pub note: String,
    /// NATS servers for the new node, when they are not those this client uses.
    pub nats_urls: Vec<String>,
    /// Addresses of the mesh for the new node, when they are not those that the site knows.
    pub mesh: Vec<String>,
}

/// A token that the site knows of.
#[derive(Debug)]
pub struct Invited {
    /// The token.
    pub token: JoinToken,
    /// The token as it is given to the new node.
    pub text: String,
    /// What the site answered.
    pub committed: Committed,
}

impl Client {
    /// Where a new node finds the site on the mesh: as the invitation says, or as the agents do.
    async fn mesh_addresses(&self, invitation: &Invitation) -> Vec<String> {
        if !invitation.mesh.is_empty() {
            return invitation.mesh.clone();
        }
        for _ in 0..LISTENING_ASKS {
            // Who can't ask for them, or asks a site without a mesh, invites without.
            let views = self.all_mesh(&BTreeSet::new()).await.unwrap_or_default();
            let places = meeting_places(&views);
            if !places.is_empty() || views.iter().all(|view| view.peer.is_none()) {
                return places;
            }
            // Whoever takes part in the mesh listens soon, and has only just started.
            tokio::time::sleep(LISTENING_PAUSE).await;
        }
        Vec::new()
    }

    /// Makes a join token and has the site take note of it.
    ///
    /// # Errors
    /// When the site cannot be asked; the inner result holds any outcome but committed.
    pub async fn invite(
        &self,
        invitation: &Invitation,
        options: &CommandOptions,
    ) -> Result<Result<Invited, Outcome>, ClientError> {
        let site = self.get::<SiteBody>(&QueryTarget::Site, Consistency::Linearizable).await?.item;
        let broken =
            |what: &str| ClientError::Local(format!("the site's answer has no usable {what}"));
        let random = |bytes: &mut [u8]| {
            getrandom::fill(bytes).map_err(|error| {
                ClientError::Local(format!("the system gives no random bytes: {error}"))
            })
        };
        let (mut secret, mut id) = ([0u8; 16], [0u8; 8]);
        random(&mut secret)?;
        random(&mut id)?;
        let urls = if invitation.nats_urls.is_empty() {
            self.nats_urls()
        } else {
            invitation.nats_urls.as_slice()
        };
        let token = JoinToken {
            site: self.site().clone(),
            uid: site.uid.parse().map_err(|_| broken("uid"))?,
            site_public_key: hex::decode(&site.site_public_key)
                .ok_or_else(|| broken("public key"))?,
            token: TokenId::from_bytes(id),
            secret,
            nats_urls: urls.iter().map(|url| redacted(url)).collect(),
            mesh: self.mesh_addresses(invitation).await,
        };
        let text = token.encode().map_err(|error| ClientError::Local(error.to_string()))?;
        let body = serde_json::json!({
            "id": token.token.to_string(),
            "key": hex::encode(&token_key(&secret)),
            "ttl": fleet_protocol::duration::format_ms(invitation.ttl_ms),
            "uses": invitation.uses,
            "note": invitation.note,
        });
        let outcome = self
            .admin_command(AdminOp::TokenCreate, body.to_string().into_bytes(), options)
            .await?;
        Ok(match outcome {
            Outcome::Committed(committed) => Ok(Invited { token, text, committed }),
            other @ (Outcome::Rejected(_) | Outcome::Unknown(_)) => Err(other),
        })
    }
}

/// The addresses that go into a token: one of each node first, then their second ones, and so on.
/// A site on one machine has only loopback addresses; elsewhere they would lead nowhere.
fn meeting_places(views: &[NodeMesh]) -> Vec<String> {
    let mut by_node: Vec<(u64, Vec<&str>)> = Vec::new();
    let own = views.iter().map(|view| (view.node, &view.listening));
    let seen = views.iter().flat_map(|view| &view.peers).map(|peer| (peer.node, &peer.addresses));
    for (node, addresses) in own.chain(seen) {
        if by_node.iter().all(|(known, _)| *known != node) {
            let fitting = addresses.iter().filter(|at| at.len() <= TOKEN_URL_BYTES_MAX);
            by_node.push((node, fitting.map(String::as_str).collect()));
        }
    }
    let is_loopback = |at: &str| at.starts_with("/ip4/127.") || at.starts_with("/ip6/::1/");
    if by_node.iter().flat_map(|(_, addresses)| addresses).any(|at| !is_loopback(at)) {
        by_node.iter_mut().for_each(|(_, addresses)| addresses.retain(|at| !is_loopback(at)));
    }
    let longest = by_node.iter().map(|(_, addresses)| addresses.len()).max().unwrap_or(0);
    let in_turn = (0..longest)
        .flat_map(|at| by_node.iter().filter_map(move |(_, addresses)| addresses.get(at)));
    in_turn.take(TOKEN_MESH_MAX).map(|at| (*at).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use fleet_protocol::mesh::PeerSeen;

    use super::*;

    fn view(node: u64, listening: &[&str], peers: &[(u64, &[&str])]) -> NodeMesh {
        let texts = |all: &[&str]| all.iter().map(|&at| at.to_owned()).collect();
        NodeMesh {
            node,
            listening: texts(listening),
            peers: peers
                .iter()
                .map(|(node, at)| PeerSeen {
                    node: *node,
                    addresses: texts(at),
                    ..PeerSeen::default()
                })
                .collect(),
            ..NodeMesh::default()
        }
    }

    #[test]
    fn every_node_comes_first_once() {
        let one = view(
            1,
            &["/ip4/127.0.0.1/tcp/1/p2p/A", "/ip4/10.0.0.1/tcp/1/p2p/A", "/ip6/::1/tcp/1/p2p/A"],
            &[(2, &["/ip4/10.0.0.2/tcp/1/p2p/B", "/ip6/fd::2/tcp/1/p2p/B"])],
        );
        assert_eq!(
            meeting_places(&[one]),
            ["/ip4/10.0.0.1/tcp/1/p2p/A", "/ip4/10.0.0.2/tcp/1/p2p/B", "/ip6/fd::2/tcp/1/p2p/B"]
        );
        let here = view(1, &["/ip4/127.0.0.1/tcp/1/p2p/A"], &[]);
        assert_eq!(meeting_places(&[here]), ["/ip4/127.0.0.1/tcp/1/p2p/A"]);
        assert!(meeting_places(&[]).is_empty());
        let many = ["/ip4/10.0.0.1/tcp/1/p2p/A"; 20];
        assert_eq!(meeting_places(&[view(1, &many, &[])]).len(), TOKEN_MESH_MAX);
    }
}
