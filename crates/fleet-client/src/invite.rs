//! Making join tokens. The secret is made here and never leaves this machine but inside the token.

use fleet_protocol::{
    AdminOp, Consistency, JoinToken, QueryTarget, hex, record::SiteBody, reply::Committed,
};
use fleet_state::{TokenId, credential::token_key};

use crate::{Client, ClientError, CommandOptions, Outcome, connect::redacted};

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
