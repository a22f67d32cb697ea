//! Join tokens.

use std::sync::Arc;

use super::effects::{Effects, compare_revision, limit_reached, not_found};
use super::{ACCEPTED, Decision};
use crate::command::Command;
use crate::ids::{Revision, TokenId};
use crate::limits::{TOKEN_KEPT_MS, TOKENS_MAX};
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::Token;
use crate::state::{FleetState, FoundingToken};

impl FleetState {
    pub(super) fn token_create(
        &mut self,
        command: &Command,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let Command::TokenCreate { id, key, ttl_ms, uses, note } = command else {
            return Ok(Outcome::Unchanged);
        };
        let before = self.tokens.get(id);
        compare_revision(
            &format_args!("token {id}"),
            before.map(|token| token.revision),
            expected,
        )?;
        if before.is_some() {
            let message = format!("token {id} exists already; make another id");
            return Err(Rejection::new(RejectCode::AlreadyExists, message));
        }
        if self.tokens.len() >= TOKENS_MAX {
            let spent = self
                .oldest_spent_token()
                .ok_or_else(|| limit_reached("join tokens", TOKENS_MAX))?;
            self.delete::<Token>(&spent, effects);
        }
        let wanted =
            FoundingToken { id: *id, key: *key, ttl_ms: *ttl_ms, uses: *uses, note: note.clone() };
        let token = self.new_token(&wanted, effects);
        self.put(token, effects);
        self.reckon_tokens_due();
        Ok(ACCEPTED)
    }

    pub(super) fn token_revoke(
        &mut self,
        id: TokenId,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let entity = format_args!("token {id}");
        let before = self.tokens.get(&id).ok_or_else(|| not_found(&entity))?;
        compare_revision(&entity, Some(before.revision), expected)?;
        self.delete::<Token>(&id, effects);
        self.reckon_tokens_due();
        Ok(ACCEPTED)
    }

    pub(crate) fn new_token(&self, wanted: &FoundingToken, effects: &Effects) -> Token {
        Token {
            id: wanted.id,
            key: wanted.key,
            note: wanted.note.clone(),
            created: effects.revision(),
            revision: effects.revision(),
            expires_log_ms: self.counters.log_time_ms.saturating_add(wanted.ttl_ms),
            expires_wall_ms: effects.wall_time_ms().saturating_add(wanted.ttl_ms),
            uses_left: wanted.uses,
            used_by: Vec::new(),
        }
    }

    /// Of the tokens that nobody can use any more, the one made first.
    fn oldest_spent_token(&self) -> Option<TokenId> {
        let now = self.counters.log_time_ms;
        let spent =
            self.tokens.iter().filter(|token| token.uses_left == 0 || token.expires_log_ms <= now);
        spent.min_by_key(|token| (token.created, token.id)).map(|token| token.id)
    }

    /// Forgets tokens that expired a while ago.
    pub(super) fn forget_tokens(&mut self, effects: &mut Effects) {
        let now = self.counters.log_time_ms;
        if self.tokens_due_ms.is_none_or(|due| now < due) {
            return;
        }
        let due = |token: &&Arc<Token>| token.expires_log_ms.saturating_add(TOKEN_KEPT_MS) <= now;
        let forgotten: Vec<TokenId> =
            self.tokens.iter().filter(due).map(|token| token.id).collect();
        for id in forgotten {
            self.delete::<Token>(&id, effects);
        }
        self.reckon_tokens_due();
    }

    /// To be called after any change of tokens.
    pub(crate) fn reckon_tokens_due(&mut self) {
        let dues =
            self.tokens.iter().map(|token| token.expires_log_ms.saturating_add(TOKEN_KEPT_MS));
        self.tokens_due_ms = dues.min();
    }
}
