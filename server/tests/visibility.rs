//! What may not be seen does not exist: not in lists, not on the watch, not in counts, errors, logs or
//! measurements. A model that knows nothing of views says what each person may see, and every byte that
//! reaches somebody is searched for words that only others may read.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "tests"
)]

mod support;
mod visibility {
    pub(crate) mod cases;
    pub(crate) mod people;
}

use proptest::prelude::*;
use visibility::people::{Step, Tower, steps};

/// So many cases, or `PROPTEST_CASES`. What fails depends on the moment too: nothing is kept of it.
fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|asked| asked.parse().ok()).unwrap_or(usual),
        failure_persistence: None,
        max_shrink_iters: 100,
        ..ProptestConfig::default()
    }
}

proptest! {
    #![proptest_config(cases(16))]

    #[test]
    fn no_byte_tells_anybody_of_what_is_not_theirs(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut tower = Tower::open().await;
            for step in steps {
                tower.step(step).await;
            }
            tower.close().await;
        });
    }
}

/// All that the random walk may do, once in an order in which everything matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn case_07_what_becomes_private_leaves_those_who_are_connected() {
    let mut tower = Tower::open().await;
    for id in 0..12 {
        tower.step(Step::Put(id, id % 7)).await;
    }
    for who in 0..3 {
        tower.step(Step::Settle(who)).await;
    }
    for workspace in 0..6 {
        tower.step(Step::Private(workspace, true)).await;
        tower.step(Step::Put(workspace, workspace)).await;
        tower
            .step(Step::Member(workspace, 0, workspace % 2 == 0))
            .await;
        tower.step(Step::Put(workspace + 6, workspace)).await;
    }
    tower.step(Step::Role(1, true)).await;
    tower.step(Step::Role(1, false)).await;
    // The first of them is away while a row of theirs goes where they may not look, and departs there.
    tower.step(Step::Put(0, 0)).await;
    tower.step(Step::Settle(0)).await;
    tower.step(Step::Leave(0)).await;
    tower.step(Step::Put(0, 1)).await;
    tower.step(Step::Gone(0)).await;
    tower.step(Step::Settle(0)).await;
    for id in 1..6 {
        tower.step(Step::Gone(id)).await;
    }
    tower.close().await;
}
