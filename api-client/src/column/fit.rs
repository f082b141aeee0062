//! Which columns fit a width, how wide each is, and rows in the order of a column.

use std::cmp::Ordering;
use std::sync::Arc;

use super::{Column, Context, Cut, compare, natural};
use crate::entity::Entity;

/// The columns that fit, with their widths.
#[derive(Debug)]
pub struct Fit {
    /// Each column that is shown and its width in cells, in the order given.
    pub columns: Vec<(&'static Column, u16)>,
    /// How many had to go.
    pub dropped: usize,
}

/// Fits `columns`, each with the width of its widest cell, into `total` cells with `gap` between them.
///
/// Columns go whole, the largest priority first; what is always shown (priority 0) stays even when
/// it does not fit. A column whose cells are never cut is as wide as they are.
pub fn fit(columns: &[(&'static Column, u16)], total: u16, gap: u16) -> Fit {
    struct Slot {
        column: &'static Column,
        least: u16,
        most: u16,
    }
    let mut slots: Vec<Slot> = columns
        .iter()
        .map(|&(column, content)| {
            // Titles are ASCII: a test says so.
            let title = column.title.len() as u16;
            let most = match column.cut {
                Cut::Never => content.max(title),
                _ => content.min(column.max).max(title),
            };
            let least = match column.cut {
                Cut::Never => most,
                _ => column.min.max(title).min(most),
            };
            Slot {
                column,
                least,
                most,
            }
        })
        .collect();
    let width = |slots: &[Slot]| {
        let cells: u32 = slots.iter().map(|slot| u32::from(slot.least)).sum();
        cells + u32::from(gap) * (slots.len().saturating_sub(1) as u32)
    };
    let mut dropped = 0;
    while width(&slots) > u32::from(total) {
        let last = slots
            .iter()
            .enumerate()
            .filter(|(_, slot)| slot.column.priority > 0)
            .max_by_key(|(at, slot)| (slot.column.priority, *at));
        let Some((at, _)) = last else { break };
        slots.remove(at);
        dropped += 1;
    }
    let mut spare = u32::from(total).saturating_sub(width(&slots));
    // Who lacks least first: a few cells make several short columns whole, or one long name a bit longer.
    let mut by_lack: Vec<usize> = (0..slots.len()).collect();
    by_lack.sort_by_key(|at| {
        (
            slots[*at].most - slots[*at].least,
            slots[*at].column.priority,
        )
    });
    for at in by_lack {
        let slot = &mut slots[at];
        let grow = u32::from(slot.most - slot.least).min(spare);
        slot.least += grow as u16;
        spare -= grow;
    }
    Fit {
        columns: slots
            .into_iter()
            .map(|slot| (slot.column, slot.least))
            .collect(),
        dropped,
    }
}

/// Sorts rows by a column; unknown last either way, equal ones by name and key.
pub fn sort(rows: &mut Vec<Arc<Entity>>, column: &Column, descends: bool, context: &Context) {
    let mut keyed: Vec<_> = rows
        .drain(..)
        .map(|row| ((column.value)(&row, context), row))
        .collect();
    keyed.sort_by(|(value_a, a), (value_b, b)| {
        let order = compare(value_a, value_b);
        let unknown =
            matches!(value_a, super::Value::None) || matches!(value_b, super::Value::None);
        let order = if descends && !unknown {
            order.reverse()
        } else {
            order
        };
        match order {
            Ordering::Equal => natural(a.name(), b.name()).then_with(|| a.key().cmp(b.key())),
            order => order,
        }
    });
    rows.extend(keyed.into_iter().map(|(_, row)| row));
}
