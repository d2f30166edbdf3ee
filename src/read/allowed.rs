//! Reads that take their time are judged again while they do: their principal may be gone meanwhile, or may
//! not read their topics any more (`auth::standing`).

use std::sync::Arc;

use super::error::ReadError;
use super::partitions::visibility;
use crate::auth::Principal;
use crate::auth::permission::{Action, Resource, reauthorize};
use crate::auth::policy::RecordVisibility;

/// Whether `principal` may go on reading these topics, and is shown the same of them as at first.
///
/// # Errors
///
/// It is no principal any more, may not read one of the topics, or is shown other records of it.
pub(crate) fn may_go_on(
    principal: &Principal,
    topics: &[Arc<str>],
    shown: &RecordVisibility,
) -> Result<(), ReadError> {
    for topic in topics {
        reauthorize(principal, Action::Consume, Resource::Topic(topic))?;
    }
    if visibility(principal, topics)? == *shown {
        return Ok(());
    }
    Err(ReadError::VisibilityChanged)
}

/// What `reading` comes to, as long as `principal` may go on. Nothing of what was read is shown after that:
/// there is no telling what of it was read before.
///
/// # Errors
///
/// Those of `reading`, and of [`may_go_on`].
pub(crate) async fn while_allowed<T, E: From<ReadError>>(
    principal: &Principal,
    topics: &[Arc<str>],
    shown: &RecordVisibility,
    reading: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let mut changes = principal.changes();
    let mut reading = std::pin::pin!(reading);
    loop {
        tokio::select! {
            biased;
            () = changes.wait() => {
                changes.came();
                may_go_on(principal, topics, shown)?;
            }
            read = &mut reading => {
                if changes.came() {
                    may_go_on(principal, topics, shown)?;
                }
                return read;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;
    use tokio::sync::oneshot;

    use super::*;
    use crate::auth::permission::Denied;

    #[test]
    fn records_are_not_shown_to_a_principal_that_lost_the_right_during_the_read() {
        let topics = [Arc::from("orders")];
        let (ann, change) = Principal::with_role("ann", &["consume:orders"]);
        let shown = visibility(&ann, &topics).unwrap();
        let read = |answer: oneshot::Receiver<&'static str>| {
            let reading = async { Ok::<_, ReadError>(answer.await.unwrap()) };
            Box::pin(while_allowed(&ann, &topics, &shown, reading))
        };
        let is_gone = |error: &ReadError| *error == ReadError::Denied(Denied::Gone);
        let is_denied = |error: &ReadError| matches!(error, ReadError::Denied(_));
        for (texts, gone) in [(Some(&["produce:orders"][..]), false), (None, true)] {
            // While it waits, and what has just come.
            for comes in [false, true] {
                change(Some(&["consume:orders"]));
                let (answers, answer) = oneshot::channel();
                let mut reading = read(answer);
                assert!(reading.as_mut().now_or_never().is_none());
                change(Some(&["consume:orders", "describe:x"]));
                assert!(reading.as_mut().now_or_never().is_none(), "it still may");
                change(texts);
                if comes {
                    answers.send("records").unwrap();
                }
                let refused = reading.now_or_never().unwrap().unwrap_err();
                assert!(
                    is_denied(&refused) && is_gone(&refused) == gone,
                    "{refused:?}"
                );
            }
            // What is gone when it begins reads nothing.
            let (_answers, answer) = oneshot::channel();
            let refused = read(answer).now_or_never().unwrap().unwrap_err();
            assert!(
                is_denied(&refused) && is_gone(&refused) == gone,
                "{refused:?}"
            );
        }
        change(Some(&["consume:orders"]));
        let (answers, answer) = oneshot::channel();
        answers.send("records").unwrap();
        assert_eq!(read(answer).now_or_never().unwrap().unwrap(), "records");
    }
}
