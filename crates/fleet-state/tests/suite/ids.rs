//! Names: what is taken, what is refused, and what the refusal says.

use std::str::FromStr;

use fleet_state::{
    DeviceId, IdError, LinkId, NodeId, NodeName, ParamKey, RequestId, Revision, SiteName, SiteUid,
    TokenId,
};

fn taken<T: FromStr<Err = IdError> + ToString>(texts: &[&str]) {
    for text in texts {
        let id: T = text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}"));
        assert_eq!(id.to_string(), *text);
    }
}

fn refused<T: FromStr<Err = IdError>>(field: &str, texts: &[&str]) {
    for text in texts {
        let Err(error) = text.parse::<T>() else { panic!("{text:?} was taken") };
        let message = error.to_string();
        assert!(message.contains(field), "{message}");
        assert!(message.len() < 200, "{message}");
        assert!(message.chars().all(|c| !c.is_control()), "{message:?}");
    }
}

const HOSTILE: &[&str] = &[
    "",
    ".",
    "..",
    "a.",
    ".a",
    "a..b",
    "A",
    "Hall",
    "a b",
    " a",
    "a\n",
    "a\0",
    "*",
    ">",
    "a.*",
    "a.>",
    "💡",
    "ä",
    "a/b",
    "a\\b",
    "$sys",
    "a\u{202e}b",
    "a\u{7f}",
];

#[test]
fn dotted_ids() {
    let long = "x".repeat(32);
    let longest = [long.as_str(); 4].join(".");
    taken::<DeviceId>(&["a", "hall2.lamp-1", "a.b.c.d", "0", "-", "_", &long, &longest]);
    taken::<LinkId>(&["a.b.c.d"]);
    let too_long = "x".repeat(33);
    let huge = "a".repeat(10_000);
    let huge_dots = ".".repeat(10_000);
    let many = ["a"; 5_000].join(".");
    for texts in [HOSTILE, &["a.b.c.d.e", &too_long, &huge, &huge_dots, &many]] {
        refused::<DeviceId>("the device id", texts);
        refused::<LinkId>("the link id", texts);
    }
    taken::<ParamKey>(&["a.b.c.d.e.f.g.h"]);
    refused::<ParamKey>("the parameter key", &["a.b.c.d.e.f.g.h.i", &huge]);
    refused::<ParamKey>("the parameter key", HOSTILE);
}

#[test]
fn one_token_names() {
    taken::<SiteName>(&["home", "hall-2", "a_b"]);
    refused::<SiteName>("the site name", HOSTILE);
    refused::<SiteName>("the site name", &["a.b"]);
    refused::<NodeName>("the node name", &["a.b", "GW"]);
}

#[test]
fn the_message_names_the_character_the_place_and_the_limit() {
    let error = "hall.Lamp".parse::<DeviceId>().unwrap_err().to_string();
    assert_eq!(
        error,
        "the device id contains \"L\" at position 6; allowed are a-z, 0-9, _, - and dots between parts"
    );
    let error = "a\0".parse::<NodeName>().unwrap_err().to_string();
    assert_eq!(
        error,
        "the node name contains \"\\0\" at position 2; allowed are a-z, 0-9, _ and -"
    );
    let error = "a.b.c.d.e".parse::<DeviceId>().unwrap_err().to_string();
    assert_eq!(error, "the device id has 5 parts; the limit is 4");
    let error = "x".repeat(33).parse::<DeviceId>().unwrap_err().to_string();
    assert_eq!(error, "the device id is 33 characters long; the limit is 32");
}

#[test]
fn request_ids() {
    let uuid = "0192d3a4-5b6c-7def-8123-456789abcdef";
    taken::<RequestId>(&[uuid, "a", "A.b_c:d-1", &"x".repeat(64)]);
    // Not canonical, so kept as text, and another id than the canonical one.
    let upper = uuid.to_uppercase();
    let bare = uuid.replace('-', "");
    let shifted = "0192d3a45-b6c-7def-8123-456789abcdef";
    taken::<RequestId>(&[&upper, &bare, shifted]);
    let parse = |text: &str| text.parse::<RequestId>().unwrap();
    assert!(parse(uuid).uuid_bytes().is_some());
    for text in [&upper, &bare, shifted] {
        assert_eq!(parse(text).uuid_bytes(), None);
        assert_ne!(parse(text), parse(uuid));
    }
    assert!(parse(uuid).is_uuid_v7());
    assert!(!parse("0192d3a4-5b6c-4def-8123-456789abcdef").is_uuid_v7());
    assert!(!parse("0192d3a4-5b6c-7def-0123-456789abcdef").is_uuid_v7());
    assert!(!parse("seven").is_uuid_v7());
    let bytes = parse(uuid).uuid_bytes().unwrap();
    assert_eq!(RequestId::from_uuid_bytes(bytes), parse(uuid));
    let long = "x".repeat(65);
    refused::<RequestId>("the request id", &["", " ", "a b", "a\r\n", "é", "a/b", &long]);
}

#[test]
fn numbers() {
    taken::<NodeId>(&["1", "18446744073709551615"]);
    refused::<NodeId>("the node id", &["0", "", "-1", "+1", "01", "1.0", "18446744073709551616"]);
    taken::<Revision>(&["0", "42"]);
    refused::<Revision>("the revision", &["", "-1", "00", "1e3", "99999999999999999999"]);
    taken::<SiteUid>(&["00112233445566778899aabbccddeeff"]);
    refused::<SiteUid>("the site uid", &["", "00", "00112233445566778899AABBCCDDEEFF"]);
    taken::<TokenId>(&["0123456789abcdef"]);
    refused::<TokenId>("the token id", &["0123456789abcdeg", "0123456789abcdef0", "ééééé"]);
}
