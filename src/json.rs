//! JSON forms that are either a name or an object: `"softmax"` or `{"softmax": {"sink": "sink_logits"}}`.

use std::fmt;
use std::marker::PhantomData;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads a string by `by_name` or an object of form `F` by `by_form`, keeping the inner error's words
/// (serde's untagged enums drop them).
pub(crate) fn name_or_form<'de, D, T, F>(
    deserializer: D,
    expecting: &'static str,
    by_name: fn(&str) -> Option<T>,
    by_form: fn(F) -> Result<T, serde_json::Error>,
) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    F: Deserialize<'de>,
{
    deserializer.deserialize_any(NameOrForm { expecting, by_name, by_form, form: PhantomData })
}

struct NameOrForm<T, F> {
    expecting: &'static str,
    by_name: fn(&str) -> Option<T>,
    by_form: fn(F) -> Result<T, serde_json::Error>,
    form: PhantomData<F>,
}

impl<'de, T, F: Deserialize<'de>> Visitor<'de> for NameOrForm<T, F> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.expecting)
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<T, E> {
        (self.by_name)(name)
            .ok_or_else(|| E::custom(format!("expected {}, got \"{name}\"", self.expecting)))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
        let form = F::deserialize(MapAccessDeserializer::new(map))?;
        (self.by_form)(form).map_err(A::Error::custom)
    }
}
