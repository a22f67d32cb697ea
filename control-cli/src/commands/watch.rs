//! `flotilla watch`: what changes, as it changes.

use anyhow::Result;
use clap::Args;
use fleet_client::{Followed, News};
use fleet_protocol::{Area, ChangeBody, Consistency, Noun, QueryTarget, record::SiteBody};
use fleet_state::Revision;

use crate::{
    output::{cell, say, tame},
    session::Session,
};

/// Follow changes without a gap, until Ctrl-C
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// Only these: link, device, param, member, token, watermarks or invocation
    #[arg(value_parser = noun)]
    noun: Option<Noun>,
    /// Only what lies in this area, as in hall2
    area: Option<Area>,
    /// Begin after this revision; 0 for everything there is [default: now]
    #[arg(long, value_name = "REVISION", allow_negative_numbers = true)]
    since: Option<u64>,
}

fn noun(text: &str) -> Result<Noun, String> {
    let told = |noun: &Noun| !matches!(noun, Noun::Site | Noun::Command);
    Noun::from_name(text).filter(told).ok_or_else(|| {
        let known: Vec<&str> = Noun::ALL.iter().copied().filter(told).map(Noun::as_str).collect();
        format!("it must be one of {}{}", known.join(", "), Noun::suggestion(text))
    })
}

pub(crate) async fn run(args: WatchArgs, session: &Session) -> Result<()> {
    let client = session.client().await?;
    let since = match args.since {
        Some(since) => Revision::new(since),
        None => {
            let site =
                client.get::<SiteBody>(&QueryTarget::Site, Consistency::Linearizable).await?;
            Revision::new(site.revision)
        }
    };
    say(&format!("watching site {} after revision {since}; Ctrl-C ends", client.site()));
    let mut follower = client.follow(since, Followed { noun: args.noun, area: args.area });
    loop {
        match follower.next().await? {
            News::Change(change) => session.form().print_next(&change, || line(&change))?,
            News::StartedOver => {
                say("deletions since are no longer known; everything there is follows")
            }
            News::Waiting(why) => say(&format!("waiting: {}", tame(&why))),
            News::Back => say("agents are heard again; nothing was missed"),
        }
    }
}

fn line(change: &ChangeBody) -> String {
    let what = match &change.record {
        None => "deleted".to_owned(),
        Some(record) => {
            let member = match change.noun.as_str() {
                "device" => "desired",
                "invocation" => "stage",
                _ => "value",
            };
            let object = record.0.as_map();
            let shown = object.and_then(|object| object.get(member).or_else(|| object.get("role")));
            shown.map_or_else(|| record.0.to_json(), |value| value.to_json())
        }
    };
    format!("{:>8}  {:<6}  {}  {}", change.revision, change.noun, cell(&change.id), cell(&what))
}

#[cfg(test)]
mod tests {
    use fleet_protocol::Json;

    use super::*;

    #[test]
    fn a_change_is_one_line() {
        let record = Json::parse(br#"{"id":"hall2.lamp-1","desired":{"on":true}}"#).unwrap();
        let mut change = ChangeBody {
            noun: "device".to_owned(),
            id: "hall2.lamp-1".to_owned(),
            revision: 42,
            previous: None,
            deleted: false,
            record: Some(record),
        };
        assert_eq!(line(&change), "      42  device  hall2.lamp-1  {\"on\":true}");
        change.record = None;
        assert_eq!(line(&change), "      42  device  hall2.lamp-1  deleted");
    }
}
