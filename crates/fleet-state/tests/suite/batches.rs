//! Batches: all or nothing, later ones see earlier ones.

use fleet_state::{BatchItem, Command, DeviceSpec, Outcome, RejectCode, Revision};

use crate::site::{
    Site, create_token, delete_device, delete_link, device_on, register, register_link, set, unset,
    update,
};

fn batch(commands: Vec<Command>) -> Command {
    let item = |command| BatchItem { command, if_revision: None };
    Command::Batch(commands.into_iter().map(item).collect())
}

#[test]
fn later_commands_see_earlier_ones() {
    let mut site = Site::default();
    let on = Command::DeviceRegister { id: "d".parse().unwrap(), spec: device_on("l") };
    let commands =
        vec![register_link("l"), on, update("d", r#"{"on":true}"#), set("p", "1"), set("p", "2")];
    let applied = site.run(batch(commands));
    let revision = applied.answer.unwrap().revision;
    // Each entity once, in the order of first change.
    let kinds: Vec<_> = applied.changes.iter().map(|change| change.entity.kind()).collect();
    assert_eq!(kinds, ["link", "device", "param"]);
    assert!(applied.changes.iter().all(|change| change.previous.is_none()));
    assert_eq!(site.state.device(&"d".parse().unwrap()).unwrap().revision, revision);
    assert_eq!(site.state.link_uses(&"l".parse().unwrap()), 1);
}

#[test]
fn one_rejection_undoes_all() {
    let mut site = Site::default();
    site.accept(register("d"));
    let commands = vec![set("p", "1"), delete_device("d"), register_link("l"), delete_link("m")];
    let message = site.reject(batch(commands), RejectCode::NotFound);
    assert!(message.starts_with("item 4 of the batch: link m does not exist"), "{message}");
    assert_eq!(
        (site.state.params_len(), site.state.devices_len(), site.state.links_len()),
        (0, 1, 0)
    );
}

#[test]
fn preconditions_are_per_item() {
    let mut site = Site::default();
    let revision = Revision::new(site.accept(set("p", "1")));
    let item = |command, if_revision| BatchItem { command, if_revision };
    let create_other = item(set("q", "1"), Some(Revision::NONE));
    let wrong =
        Command::Batch(vec![create_other.clone(), item(set("p", "2"), Some(Revision::new(99)))]);
    site.reject(wrong, RejectCode::RevisionMismatch);
    let right = vec![create_other, item(set("p", "2"), Some(revision))];
    site.reject_if(Some(revision.get()), Command::Batch(right.clone()), RejectCode::Malformed);
    site.accept(Command::Batch(right));
    assert_eq!(site.state.params_len(), 2);
}

#[test]
fn unchanged_and_cancelled_out() {
    let mut site = Site::default();
    site.accept(set("p", "1"));
    let applied = site.run(batch(vec![set("p", "1"), set("p", "1")]));
    assert_eq!(applied.answer.unwrap().outcome, Outcome::Unchanged);
    let applied = site.run(batch(vec![set("q", "1"), unset("q")]));
    // It came and went: told as a deletion of what was not there.
    assert_eq!(applied.changes.len(), 1);
    assert!(applied.changes[0].previous.is_none() && applied.changes[0].record.is_none());
    site.accept(batch(vec![unset("p"), set("p", "1")]));
    let param = site.state.param(&"p".parse().unwrap()).unwrap();
    assert_eq!(param.created, param.revision);
}

#[test]
fn what_a_batch_may_hold() {
    let mut site = Site::default();
    site.reject(Command::Batch(Vec::new()), RejectCode::Malformed);
    let proposal = |command| fleet_state::Proposal {
        request_id: "r".parse().unwrap(),
        if_revision: None,
        actor: None,
        command,
    };
    for inner in
        [create_token(1, 5_000, 1), batch(vec![set("p", "1")]), Command::SetVoters { voters: 3 }]
    {
        let proposal = proposal(batch(vec![set("p", "1"), inner]));
        let error = proposal.validate().unwrap_err();
        assert!(error.message.starts_with("item 2 of the batch: "), "{}", error.message);
        assert!(fleet_state::Proposal::decode(&proposal.encode()).is_err());
    }
    let many = (0..256).map(|number| register(&format!("d-{number}"))).collect();
    let applied = site.run(batch(many));
    assert_eq!(applied.changes.len(), 256);
    assert_eq!(site.state.devices().next().unwrap().spec, DeviceSpec::default());
}
