//! How values are packed: JSON without its texts said twice.
//!
//! A text is written out the first time it comes in a segment, and is a number from then on, names
//! of fields included. Numbers take as many bytes as they need. It describes itself as JSON does, so
//! that an event is read from it by the very code that reads it from JSON.

use std::collections::HashMap;
use std::fmt;

use serde::de::{
    self, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer as _, MapAccess, SeqAccess,
    VariantAccess, Visitor,
};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const NUMBER: u8 = 3;
const NEGATIVE: u8 = 4;
const TEXT: u8 = 5;
const ARRAY: u8 = 6;
const OBJECT: u8 = 7;
const END: u8 = 8;

/// In the place of a text's number: the end of an object, and a text that was not there before.
const NO_TEXT: u64 = 0;
const NEW_TEXT: u64 = 1;

/// Texts longer than this come once, mostly.
const NUMBERED_MAX: usize = 128;

/// Why bytes are not what was packed, or a value cannot be.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct BadValue(String);

impl de::Error for BadValue {
    fn custom<T: fmt::Display>(what: T) -> Self {
        Self(what.to_string())
    }
}

impl From<String> for BadValue {
    fn from(what: String) -> Self {
        Self(what)
    }
}

impl From<schemas::id::BadId> for BadValue {
    fn from(error: schemas::id::BadId) -> Self {
        Self(error.to_string())
    }
}

fn bad<T>(what: &str) -> Result<T, BadValue> {
    Err(BadValue(what.to_owned()))
}

/// Packs values, one after another.
#[derive(Debug, Default)]
pub(crate) struct Packer {
    pub(crate) bytes: Vec<u8>,
    texts: HashMap<Box<str>, u64>,
}

impl Packer {
    /// A number, seven bits a byte.
    pub(crate) fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push((number & 0x7f) as u8);
    }

    /// A text.
    pub(crate) fn text(&mut self, text: &str) {
        if let Some(number) = self.texts.get(text) {
            return self.number(*number);
        }
        self.number(NEW_TEXT);
        self.number(text.len() as u64);
        self.bytes.extend(text.as_bytes());
        if text.len() <= NUMBERED_MAX {
            let number = self.texts.len() as u64 + NEW_TEXT + 1;
            self.texts.insert(text.into(), number);
        }
    }

    /// A JSON value.
    pub(crate) fn json(&mut self, json: &str) -> Result<(), serde_json::Error> {
        Packing(self).deserialize(&mut serde_json::Deserializer::from_str(json))
    }
}

/// Packs what a deserializer tells.
struct Packing<'a>(&'a mut Packer);

impl<'de> DeserializeSeed<'de> for Packing<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<(), D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Packing<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value without fractions")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.0.bytes.push(NULL);
        Ok(())
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.0.bytes.push(if value { TRUE } else { FALSE });
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        self.0.bytes.push(NUMBER);
        self.0.number(value);
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        self.0.bytes.push(NEGATIVE);
        self.0.number(value.unsigned_abs());
        Ok(())
    }

    fn visit_str<E>(self, text: &str) -> Result<(), E> {
        self.0.bytes.push(TEXT);
        self.0.text(text);
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        self.0.bytes.push(ARRAY);
        while items.next_element_seed(Packing(self.0))?.is_some() {}
        self.0.bytes.push(END);
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        self.0.bytes.push(OBJECT);
        while let Some(name) = fields.next_key::<String>()? {
            self.0.text(&name);
            fields.next_value_seed(Packing(self.0))?;
        }
        self.0.number(NO_TEXT);
        Ok(())
    }
}

/// Reads packed values, one after another.
#[derive(Debug)]
pub(crate) struct Unpacker<'de> {
    rest: &'de [u8],
    texts: Vec<&'de str>,
}

impl<'de> Unpacker<'de> {
    pub(crate) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes, texts: Vec::new() }
    }

    /// Whether all was read.
    pub(crate) fn is_done(&self) -> bool {
        self.rest.is_empty()
    }

    fn byte(&mut self) -> Result<u8, BadValue> {
        let Some((byte, rest)) = self.rest.split_first() else { return bad("it is cut short") };
        self.rest = rest;
        Ok(*byte)
    }

    /// A number.
    pub(crate) fn number(&mut self) -> Result<u64, BadValue> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        bad("a number is too long")
    }

    /// A text.
    pub(crate) fn text(&mut self) -> Result<&'de str, BadValue> {
        match self.text_or_end()? {
            Some(text) => Ok(text),
            None => bad("a text is missing"),
        }
    }

    fn text_or_end(&mut self) -> Result<Option<&'de str>, BadValue> {
        let number = match self.number()? {
            NO_TEXT => return Ok(None),
            NEW_TEXT => return self.new_text().map(Some),
            number => usize::try_from(number - NEW_TEXT - 1).unwrap_or(usize::MAX),
        };
        match self.texts.get(number) {
            Some(text) => Ok(Some(text)),
            None => bad("a text is named before it came"),
        }
    }

    fn new_text(&mut self) -> Result<&'de str, BadValue> {
        let len = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        let Some((text, rest)) = self.rest.split_at_checked(len) else {
            return bad("a text is cut short");
        };
        let Ok(text) = std::str::from_utf8(text) else { return bad("a text is not UTF-8") };
        self.rest = rest;
        if len <= NUMBERED_MAX {
            self.texts.push(text);
        }
        Ok(text)
    }

    /// Takes the next byte if it is this one.
    fn takes(&mut self, tag: u8) -> bool {
        let is = self.rest.first() == Some(&tag);
        if is {
            self.rest = &self.rest[1..];
        }
        is
    }
}

impl<'de> Deserializer<'de> for &mut Unpacker<'de> {
    type Error = BadValue;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BadValue> {
        match self.byte()? {
            NULL => visitor.visit_unit(),
            FALSE => visitor.visit_bool(false),
            TRUE => visitor.visit_bool(true),
            NUMBER => visitor.visit_u64(self.number()?),
            NEGATIVE => match 0_i64.checked_sub_unsigned(self.number()?) {
                Some(number) => visitor.visit_i64(number),
                None => bad("a number is too small"),
            },
            TEXT => visitor.visit_borrowed_str(self.text()?),
            ARRAY => visitor.visit_seq(Items(self)),
            OBJECT => visitor.visit_map(Items(self)),
            _ => bad("there is no such value"),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, BadValue> {
        if self.takes(NULL) { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        match self.byte()? {
            TEXT => visitor.visit_enum(self.text()?.into_deserializer()),
            OBJECT => visitor.visit_enum(Items(self)),
            _ => bad("a variant is neither a text nor an object"),
        }
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct seq tuple tuple_struct map struct identifier ignored_any
    }
}

/// What an array or an object holds.
struct Items<'a, 'de>(&'a mut Unpacker<'de>);

impl<'de> SeqAccess<'de> for Items<'_, 'de> {
    type Error = BadValue;

    fn next_element_seed<T: DeserializeSeed<'de>>(
        &mut self,
        seed: T,
    ) -> Result<Option<T::Value>, BadValue> {
        if self.0.takes(END) { Ok(None) } else { seed.deserialize(&mut *self.0).map(Some) }
    }
}

impl<'de> MapAccess<'de> for Items<'_, 'de> {
    type Error = BadValue;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, BadValue> {
        let Some(name) = self.0.text_or_end()? else { return Ok(None) };
        seed.deserialize(de::value::BorrowedStrDeserializer::new(name)).map(Some)
    }

    fn next_value_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<T::Value, BadValue> {
        seed.deserialize(&mut *self.0)
    }
}

/// A variant with content is an object of one field.
impl<'de> EnumAccess<'de> for Items<'_, 'de> {
    type Error = BadValue;
    type Variant = Self;

    fn variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<(T::Value, Self), BadValue> {
        let name = self.0.text()?;
        let name = de::value::BorrowedStrDeserializer::<BadValue>::new(name);
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> Items<'_, 'de> {
    fn ends<T>(self, value: T) -> Result<T, BadValue> {
        match self.0.text_or_end()? {
            None => Ok(value),
            Some(_) => bad("a variant has more than one field"),
        }
    }
}

impl<'de> VariantAccess<'de> for Items<'_, 'de> {
    type Error = BadValue;

    fn unit_variant(self) -> Result<(), BadValue> {
        <() as de::Deserialize>::deserialize(&mut *self.0)?;
        self.ends(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, BadValue> {
        let value = seed.deserialize(&mut *self.0)?;
        self.ends(value)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, BadValue> {
        let value = self.0.deserialize_any(visitor)?;
        self.ends(value)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, BadValue> {
        let value = self.0.deserialize_any(visitor)?;
        self.ends(value)
    }
}

#[cfg(test)]
mod tests {
    use schemas::event::Event;

    use super::*;

    #[test]
    fn every_event_reads_as_it_does_from_json() {
        let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/../../schemas/golden/v1/event");
        let mut packer = Packer::default();
        let mut events = Vec::new();
        for file in std::fs::read_dir(golden).expect("it is there") {
            let text = std::fs::read_to_string(file.expect("readable").path()).expect("readable");
            let sample: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            let kind = sample["type"].as_str().expect("a type").to_owned();
            let data = sample["data"].to_string();
            // Twice: the second time every text is a number.
            for _ in 0..2 {
                packer.json(&data).expect("it packs");
                let event = Event::decode(&kind, &data).expect("known").expect("it decodes");
                events.push((kind.clone(), event));
            }
        }
        assert!(events.len() >= 2 * Event::TYPES.len());
        let mut unpacker = Unpacker::new(&packer.bytes);
        for (kind, event) in events {
            let read = Event::read(&kind, &mut unpacker).expect("known").expect("it unpacks");
            assert_eq!(read, event);
        }
        assert!(unpacker.is_done());
    }

    #[test]
    fn fractions_do_not_pack_and_torn_bytes_do_not_read() {
        let mut packer = Packer::default();
        assert!(packer.json(r#"{"a":1.5}"#).is_err());
        let json = r#"{"a":[-3,18446744073709551615,null,true,{"b":"ä"}],"b":"a"}"#;
        let mut packer = Packer::default();
        packer.json(json).expect("it packs");
        let value: serde_json::Value =
            de::Deserialize::deserialize(&mut Unpacker::new(&packer.bytes)).expect("it reads");
        assert_eq!(value, serde_json::from_str::<serde_json::Value>(json).expect("JSON"));
        for end in 0..packer.bytes.len() {
            let mut torn = Unpacker::new(&packer.bytes[..end]);
            let read: Result<serde_json::Value, _> = de::Deserialize::deserialize(&mut torn);
            assert!(read.is_err(), "cut at {end}");
        }
    }
}
