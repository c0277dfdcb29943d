//! Numbers of a run's state in JSON, which has no NaN and no infinities: those are written as text, and all come back as they were.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

/// Numbers, and lists of them, that can be written as JSON.
pub(super) trait Floats: Sized {
    fn to_json(&self) -> Value;
    fn from_json(value: Value) -> Option<Self>;
}

impl Floats for f64 {
    fn to_json(&self) -> Value {
        if self.is_finite() { (*self).into() } else { self.to_string().into() }
    }

    fn from_json(value: Value) -> Option<Self> {
        match value {
            Value::String(text) => text.parse().ok().filter(|v: &f64| !v.is_finite()),
            number => number.as_f64(),
        }
    }
}

impl Floats for Option<f64> {
    fn to_json(&self) -> Value {
        self.map_or(Value::Null, |v| v.to_json())
    }

    fn from_json(value: Value) -> Option<Self> {
        if value.is_null() { Some(None) } else { f64::from_json(value).map(Some) }
    }
}

impl Floats for (String, f64) {
    fn to_json(&self) -> Value {
        vec![Value::from(self.0.clone()), self.1.to_json()].into()
    }

    fn from_json(value: Value) -> Option<Self> {
        let (name, number) = <(String, Value)>::deserialize(value).ok()?;
        Some((name, f64::from_json(number)?))
    }
}

impl<T: Floats> Floats for Vec<T> {
    fn to_json(&self) -> Value {
        self.iter().map(Floats::to_json).collect()
    }

    fn from_json(value: Value) -> Option<Self> {
        <Vec<Value>>::deserialize(value).ok()?.into_iter().map(T::from_json).collect()
    }
}

pub(super) fn serialize<T: Floats, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.to_json().serialize(serializer)
}

pub(super) fn deserialize<'de, T: Floats, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    T::from_json(Value::deserialize(deserializer)?).ok_or_else(|| D::Error::custom("expected numbers"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_finite_comes_back() {
        let values = vec![("a".to_string(), 0.1), ("b".into(), f64::INFINITY), ("c".into(), f64::NEG_INFINITY), ("d".into(), f64::NAN)];
        let text = values.to_json().to_string();
        assert_eq!(text, r#"[["a",0.1],["b","inf"],["c","-inf"],["d","NaN"]]"#);
        let again = Vec::<(String, f64)>::from_json(serde_json::from_str(&text).unwrap()).unwrap();
        assert!(again[..3] == values[..3] && again[3].1.is_nan());
        assert_eq!(<Vec<Option<f64>>>::from_json(serde_json::json!([null, 1, "inf"])), Some(vec![None, Some(1.0), Some(f64::INFINITY)]));
        for wrong in [r#"["1.5"]"#, r#"["x"]"#, "[[]]", "3"] {
            assert!(<Vec<f64>>::from_json(serde_json::from_str(wrong).unwrap()).is_none(), "{wrong}");
        }
    }
}
