//! Ids for devices that have names only.
//!
//! An id is made of small letters, digits, `_` and `-`, in parts that dots join. A slash in a name
//! begins another part, since people group their devices so; letters with accents lose them, and
//! whatever else an id can't hold becomes a dash. A name of which nothing is left gives way to
//! the address.

use fleet_protocol::Area;
use fleet_state::limits::{ID_TOKENS_MAX, TOKEN_CHARS_MAX};

/// The end of an address that tells two devices of one name apart.
const TAIL_CHARS: usize = 4;

/// The id that a name asks for.
pub(super) fn of_name(area: Option<&Area>, name: &str, address: &str) -> String {
    let area: Vec<String> =
        area.iter().flat_map(|area| area.as_ref().split('.')).map(str::to_owned).collect();
    let left = ID_TOKENS_MAX.saturating_sub(area.len()).max(1);
    let parts: Vec<String> = name.split('/').map(token).filter(|token| !token.is_empty()).collect();
    // What is too deep for an id stays together in its last part.
    let (first, rest) = parts.split_at(parts.len().min(left.saturating_sub(1)));
    let mut tokens = [area, first.to_vec()].concat();
    if !rest.is_empty() {
        tokens.push(cut(&rest.join("-"), TOKEN_CHARS_MAX));
    }
    if parts.is_empty() {
        let address = token(address);
        tokens.push(if address.is_empty() { "device".to_owned() } else { address });
    }
    tokens.truncate(ID_TOKENS_MAX);
    tokens.join(".")
}

/// The same id with the end of the address, or after that a number, for a device whose id another
/// one has.
pub(super) fn told_apart(id: &str, address: &str, attempt: usize) -> String {
    let plain = token(address).replace('-', "");
    let tail: String =
        plain.chars().skip(plain.chars().count().saturating_sub(TAIL_CHARS)).collect();
    let tail = if attempt == 0 && !tail.is_empty() {
        tail
    } else {
        format!("{tail}{}", attempt.saturating_add(1))
    };
    let (before, last) = match id.rsplit_once('.') {
        Some((before, last)) => (format!("{before}."), last),
        None => (String::new(), id),
    };
    let room = TOKEN_CHARS_MAX.saturating_sub(tail.len()).saturating_sub(1);
    format!("{before}{}-{tail}", cut(last, room))
}

/// A part of an id.
fn token(text: &str) -> String {
    let mut token = String::new();
    for c in text.chars().flat_map(char::to_lowercase) {
        match c {
            'a'..='z' | '0'..='9' | '_' => token.push(c),
            _ => match plain(c) {
                Some(letters) => token.push_str(letters),
                None if token.is_empty() || token.ends_with('-') => {}
                None => token.push('-'),
            },
        }
    }
    cut(&token, TOKEN_CHARS_MAX)
}

fn cut(token: &str, chars_max: usize) -> String {
    let cut: String = token.chars().take(chars_max).collect();
    cut.trim_end_matches('-').to_owned()
}

/// Letters of European languages without their accents.
fn plain(c: char) -> Option<&'static str> {
    Some(match c {
        // An accent that stands behind its letter.
        '\u{300}'..='\u{36f}' => "",
        'ä' | 'æ' => "ae",
        'ö' | 'œ' => "oe",
        'ü' => "ue",
        'ß' => "ss",
        'à' | 'á' | 'â' | 'ã' | 'å' | 'ā' | 'ą' => "a",
        'ç' | 'ć' | 'č' => "c",
        'ď' | 'ð' => "d",
        'è' | 'é' | 'ê' | 'ë' | 'ē' | 'ę' | 'ě' => "e",
        'ì' | 'í' | 'î' | 'ï' | 'ī' | 'ı' => "i",
        'ł' => "l",
        'ñ' | 'ń' | 'ň' => "n",
        'ò' | 'ó' | 'ô' | 'õ' | 'ø' | 'ő' => "o",
        'ř' => "r",
        'ś' | 'š' | 'ş' => "s",
        'ť' | 'þ' => "t",
        'ù' | 'ú' | 'û' | 'ů' | 'ū' | 'ű' => "u",
        'ý' | 'ÿ' => "y",
        'ź' | 'ż' | 'ž' => "z",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use fleet_state::DeviceId;

    use super::*;

    const ADDRESS: &str = "0x00158d00018255df";

    #[test]
    fn names_become_ids() {
        let cases = [
            ("Kitchen Lamp", "kitchen-lamp"),
            ("living room/Floor lamp #2", "living-room.floor-lamp-2"),
            ("Büro/Décor (groß)", "buero.decor-gross"),
            ("a/b/c/d/e", "a.b.c.d-e"),
            ("--x--", "x"),
            ("ランプ", ADDRESS),
            ("/", ADDRESS),
            ("İstanbul", "istanbul"),
            ("plug_1", "plug_1"),
            ("a.b", "a-b"),
        ];
        for (name, id) in cases {
            let made = of_name(None, name, ADDRESS);
            assert_eq!(made, id, "{name}");
            assert!(made.parse::<DeviceId>().is_ok(), "{made}");
        }
        let area: Area = "hall2.east".parse().unwrap();
        assert_eq!(of_name(Some(&area), "a/b/c", ADDRESS), "hall2.east.a.b-c");
        let deep: Area = "a.b.c.d".parse().unwrap();
        assert!(of_name(Some(&deep), "x", ADDRESS).parse::<DeviceId>().is_ok());
    }

    #[test]
    fn every_name_becomes_an_id_that_parses() {
        let letters =
            ['a', 'Z', '9', '_', '-', '/', '.', ' ', 'ß', 'İ', '灯', '\u{301}', '\0', '"'];
        let mut state = 7_usize;
        for length in 0..400 {
            let name: String = (0..length % 90)
                .map(|_| {
                    state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    letters[(state >> 33) % letters.len()]
                })
                .collect();
            for address in [ADDRESS, "", "Ä/ö", &name] {
                let id = of_name(None, &name, address);
                assert!(id.parse::<DeviceId>().is_ok(), "{name:?} became {id:?}");
                // An id may end so already; then the next one is another.
                let others: BTreeSet<String> =
                    (0..4).map(|attempt| told_apart(&id, address, attempt)).collect();
                assert_eq!(others.len(), 4, "{id:?} became {others:?}");
                for other in others {
                    assert!(other.parse::<DeviceId>().is_ok(), "{id:?} became {other:?}");
                }
            }
        }
    }

    #[test]
    fn two_of_a_name_are_told_apart() {
        assert_eq!(told_apart("kitchen.lamp", ADDRESS, 0), "kitchen.lamp-55df");
        assert_eq!(told_apart("lamp", ADDRESS, 1), "lamp-55df2");
        let long = "x".repeat(32);
        assert_eq!(told_apart(&long, ADDRESS, 0).len(), 32);
    }
}
