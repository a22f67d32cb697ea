//! Parts of a run that may fail without ending it: what they say goes into the report.

use std::any::Any;
use std::panic::AssertUnwindSafe;

use futures_util::FutureExt as _;

/// Does a part of a run; an error is the text of the panic that ended it, after what it is called.
///
/// # Errors
/// It has panicked.
pub async fn attempt<T>(called: &str, part: impl Future<Output = T>) -> Result<T, String> {
    // Whatever it was at is only looked at afterwards, and judged.
    let done = AssertUnwindSafe(part).catch_unwind().await;
    done.map_err(|panic| format!("{called}: {}", text_of(&*panic)))
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let owned = panic.downcast_ref::<String>().map(String::as_str);
    owned.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic without a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_fails_becomes_a_text() {
        assert_eq!(attempt("a", async { 7 }).await, Ok(7));
        let failed: Result<(), _> =
            attempt("the strikes", async { panic!("n{} is gone", 3) }).await;
        assert_eq!(failed, Err("the strikes: n3 is gone".to_owned()));
        let failed: Result<(), _> = attempt("the end", async { panic!("no leader") }).await;
        assert_eq!(failed, Err("the end: no leader".to_owned()));
    }
}
