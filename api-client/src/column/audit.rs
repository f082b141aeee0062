//! The columns of the audit.

use super::{
    Column, Cut, HIDDEN, KEY, Measure, NAME, OWNER, PHASE, SOURCE, STATUS, Value, WHY, WORKSPACE,
    cell,
};

pub(super) const AUDIT: &[Column] = &[
    Column::new(
        "time",
        "TIME",
        (8, 12),
        0,
        cell!(Audit, row => Value::Clock(row.at)),
        "When it was written; compared as an age in filters.",
    )
    .aka(&["age", "at"])
    .measures(Measure::Time)
    .left()
    .cut(Cut::Never),
    Column {
        title: "WHO",
        doc: "Who did it.",
        ..OWNER
    },
    Column::new(
        "action",
        "WHAT",
        (12, 24),
        0,
        cell!(Audit, row => &row.action),
        "What was done.",
    )
    .aka(&["what"]),
    Column::new(
        "target",
        "TARGET",
        (12, 40),
        2,
        cell!(Audit, row => &row.target),
        "To what, and whose it was.",
    ),
    Column {
        title: "RESULT",
        doc: "What came of it.",
        ..STATUS
    }
    .aka(&["result", "outcome", "state"]),
    Column::new(
        "address",
        "FROM",
        (9, 24),
        4,
        cell!(Audit, row => &row.address),
        "From which address.",
    )
    .aka(&["from", "ip"]),
    Column {
        title: "DETAILS",
        doc: "A sentence about it: why it was refused, or what happened.",
        ..WHY
    }
    .aka(&["reason", "details", "detail"]),
    Column::new(
        "proof",
        "BY",
        (5, 20),
        7,
        cell!(Audit, row => &row.proof),
        "How they had proved who they are.",
    )
    .aka(&["by"]),
    Column::new(
        "role",
        "ROLE",
        (5, 6),
        HIDDEN,
        cell!(Audit, row => &row.role),
        "The role of whoever it was.",
    ),
    Column::new(
        "request",
        "REQUEST",
        (8, 36),
        HIDDEN,
        cell!(Audit, row => &row.request),
        "The id of the request, where it was one.",
    ),
    Column::new(
        "id",
        "NO",
        (3, 9),
        HIDDEN,
        cell!(Audit, row => row.seq),
        "Its number: one more than the entry before.",
    )
    .aka(&["seq", "no"])
    .measures(Measure::Count),
    Column::new(
        "hash",
        "HASH",
        (16, 64),
        HIDDEN,
        cell!(Audit, row => &row.hash),
        "The hash of the entry and of all before it.",
    ),
    Column {
        priority: HIDDEN,
        ..NAME
    },
    Column {
        priority: HIDDEN,
        ..WORKSPACE
    },
    PHASE,
    SOURCE,
    KEY,
];
