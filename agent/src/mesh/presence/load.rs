//! How busy the machine is, as it tells by itself.

/// Load over the last minute, in thousandths of a machine that is just busy: all its processors
/// have work and nothing waits. 0 where there is no `/proc`.
pub(in crate::mesh) fn load_permille() -> u32 {
    let processors = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    parse(&text, processors).unwrap_or(0)
}

/// The first number of `/proc/loadavg` counts processes that run or wait to run.
fn parse(text: &str, processors: usize) -> Option<u32> {
    let (whole, hundredths) = text.split_whitespace().next()?.split_once('.')?;
    let hundredths =
        whole.parse::<u64>().ok()?.checked_mul(100)?.checked_add(hundredths.parse().ok()?)?;
    let permille = hundredths.checked_mul(10)?.checked_div(u64::try_from(processors).ok()?)?;
    u32::try_from(permille).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_system_says_is_read() {
        assert_eq!(parse("0.52 0.58 0.59 1/467 12345\n", 1), Some(520));
        assert_eq!(parse("2.00 0.58 0.59 1/467 12345\n", 4), Some(500));
        for odd in ["", "x", "1", "1.x 2", "99999999999999999999.00"] {
            assert_eq!(parse(odd, 2), None, "{odd}");
        }
    }
}
