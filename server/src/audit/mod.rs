//! stub
use crate::guest::Asker;
use crate::store::{Store, StoreError};
use rusqlite::Connection;
use skytower_api_client::Text;
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) outcome: Text,
    pub(crate) detail: Text,
}
impl Entry {
    pub(crate) fn of(_: &Asker, _action: &str, _target: Text) -> Self {
        Self {
            outcome: Text::default(),
            detail: Text::default(),
        }
    }
}
pub(crate) fn append(_: &Connection, _: &Entry) -> Result<(), StoreError> {
    Ok(())
}
#[derive(Clone)]
pub(crate) struct Audit;
impl Audit {
    pub(crate) fn open(_: Store) -> Self {
        Self
    }
    pub(crate) fn note(&self, _: Entry) {}
}
