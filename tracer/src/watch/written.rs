//! Values of the configuration that are written as text: `"64MiB"`, `"10min"`, `"80%"`. A bare number will do where it does
//! on the command line.

use std::time::Duration;

use serde::{Deserialize, Deserializer, de::Error};

use crate::quantity;

#[derive(Deserialize)]
#[serde(untagged, expecting = "a text, or a number")]
enum Written {
    Whole(i64),
    Number(f64),
    Text(String),
}

/// What `parse` makes of it; says what is wrong where that fails.
pub(super) fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: impl FnOnce(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = match Written::deserialize(from)? {
        Written::Whole(it) => it.to_string(),
        Written::Number(it) => it.to_string(),
        Written::Text(it) => it,
    };
    parse(&text).map(Some).map_err(|why| D::Error::custom(format!("{text:?}: {why}")))
}

pub(super) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u64>, D::Error> {
    parsed(from, quantity::size)
}

pub(super) fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parsed(from, quantity::duration)
}

/// Where none is one of the answers.
pub(super) fn duration_or_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parsed(from, |it| match it.trim_end_matches('s').trim() {
        "0" => Ok(Duration::ZERO),
        _ => quantity::duration(it),
    })
}

pub(super) fn share<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    parsed(from, quantity::share)
}
