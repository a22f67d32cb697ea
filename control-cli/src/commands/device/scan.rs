//! `flotilla device scan`: which units of a bus answer.
//!
//! The link must be paused, because a bus has one master. Every unit is asked who it is, at a
//! measured pace, and nothing else: no register is read or written. Nothing is registered.

use anyhow::Result;
use clap::Args;
use fleet_protocol::{
    Noun, QueryTarget,
    limits::{SCAN_PER_SECOND_DEFAULT, SCAN_PER_SECOND_MAX},
    look::{Look, LookRequest, Looked, UnitBody, Units},
    record::{DeviceBody, LinkBody},
};
use fleet_state::{Entity, LinkId};
use serde::Serialize;

use crate::{
    commands::listed,
    exit::Stop,
    output::{Form, Table, say},
    session::Session,
};

#[derive(Debug, Args)]
pub(crate) struct ScanArgs {
    /// The protocol of the link: modbus
    #[arg(value_name = "PROTOCOL")]
    connector: String,
    /// The link; it must be paused
    link: LinkId,
    /// Which units are asked, as in 1-10,17
    #[arg(long, value_name = "UNITS")]
    units: Units,
    /// Questions a second
    #[arg(long, value_name = "NUMBER", default_value_t = SCAN_PER_SECOND_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(SCAN_PER_SECOND_MAX)))]
    rate: u32,
}

/// A unit, and which device the site knows there.
#[derive(Debug, Serialize)]
struct Seen {
    #[serde(flatten)]
    unit: UnitBody,
    #[serde(skip_serializing_if = "Option::is_none")]
    device: Option<String>,
}

pub(super) async fn run(args: ScanArgs, session: &Session) -> Result<()> {
    let target = QueryTarget::Get(Entity::Link(args.link.clone()));
    let link: LinkBody = listed::one(session, target).await?;
    if link.connector != args.connector {
        let what = format!("link {} speaks {}, not {}", link.id, link.connector, args.connector);
        return Err(Stop::usage(what).into());
    }
    let target = QueryTarget::List { noun: Noun::Device, area: None };
    let known: Vec<DeviceBody> = listed::all(session, target, listed::whole_page()).await?;
    let (units, broken) = units(&args, session).await?;
    let seen: Vec<Seen> = units
        .into_iter()
        .map(|unit| {
            let at = |device: &&DeviceBody| {
                device.link.as_deref() == Some(args.link.as_str())
                    && device.address.parse() == Ok(unit.unit)
            };
            let device = known.iter().find(at).map(|device| device.id.clone());
            Seen { unit, device }
        })
        .collect();
    let answering = seen.iter().filter(|seen| seen.unit.answers).count();
    session.form().print(&seen, || table(&seen))?;
    say(&format!("{answering} of {} units answer", seen.len()));
    let Some(broken) = broken else { return Ok(()) };
    if let Some(rest) = seen.last().and_then(|last| rest(&args.units, last.unit.unit)) {
        say(&format!("the others were not asked; go on with --units {rest}"));
    }
    Err(broken)
}

/// The units behind one.
fn rest(units: &Units, last: u8) -> Option<Units> {
    let rest = units.as_slice().iter().filter(|unit| **unit > last);
    let rest: Vec<String> = rest.map(ToString::to_string).collect();
    rest.join(",").parse().ok()
}

/// Asks page by page: each is as long as a request may wait. What was found before one failed is
/// worth something, and goes with the reason.
async fn units(
    args: &ScanArgs,
    session: &Session,
) -> Result<(Vec<UnitBody>, Option<anyhow::Error>)> {
    let client = session.client().await?;
    let look = Look::Scan { units: args.units.clone(), per_second: args.rate };
    let mut request = LookRequest::new(args.link.clone(), look);
    let mut units = Vec::new();
    loop {
        let page: Looked<UnitBody> = match client.look(&request, session.consistency()).await {
            Ok(page) => page,
            Err(error) if units.is_empty() => return Err(error.into()),
            Err(error) => return Ok((units, Some(error.into()))),
        };
        units.extend(page.items);
        let Some(next) = page.next else { return Ok((units, None)) };
        if session.form() == Form::Table {
            say(&format!("asked {} of {}", units.len(), args.units.as_slice().len()));
        }
        request.after = Some(next);
    }
}

fn table(seen: &[Seen]) -> Table {
    let mut table = Table::new(&["UNIT", "DEVICE", "VENDOR", "PRODUCT", "VERSION", "NOTE"]);
    let told = |text: &Option<String>| text.clone().unwrap_or_default();
    for Seen { unit, device } in seen.iter().filter(|seen| seen.unit.answers) {
        table.row([
            unit.unit.to_string(),
            told(device),
            told(&unit.vendor),
            told(&unit.product),
            told(&unit.version),
            told(&unit.detail),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scan_that_was_interrupted_goes_on_behind_the_last_unit() {
        let units: Units = "1-10,17,255".parse().unwrap();
        for (last, text) in [(4, Some("5-10,17,255")), (10, Some("17,255")), (255, None)] {
            let rest = rest(&units, last).map(|rest| rest.to_string());
            assert_eq!(rest.as_deref(), text, "{last}");
        }
    }
}
