//! The form in which events are declared: one place says an event's fields, writers and meaning.

/// Declares the events once: the struct, the writers that may state it, and its fields.
macro_rules! events {
    ($($(#[$doc:meta])* $name:ident by $writers:expr => {
        $($(#[$field_doc:meta])* $field:ident : $type:ty),* $(,)?
    })*) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
            pub struct $name {
                $($(#[$field_doc])* pub $field: $type),*
            }

            impl From<$name> for Event {
                fn from(event: $name) -> Self {
                    Self::$name(event)
                }
            }
        )*

        /// An event, decoded.
        #[derive(Clone, Debug, PartialEq, Eq, Hash)]
        pub enum Event {
            $($(#[$doc])* $name($name)),*
        }

        impl Event {
            /// Every type of event there is, with the writers that may state it.
            pub const TYPES: &'static [(&'static str, By)] = &[$((stringify!($name), $writers)),*];

            /// The type, as the envelope names it.
            #[must_use]
            pub fn kind(&self) -> &'static str {
                match self { $(Self::$name(_) => stringify!($name)),* }
            }

            /// Who may state it.
            #[must_use]
            pub fn by(&self) -> By {
                match self { $(Self::$name(_) => $writers),* }
            }

            /// Decodes the data of a type. `None` when this release does not know the type.
            #[must_use]
            pub fn decode(kind: &str, data: &str) -> Option<Result<Self, serde_json::Error>> {
                Some(match kind {
                    $(stringify!($name) => serde_json::from_str(data).map(Self::$name),)*
                    _ => return None,
                })
            }

            /// Reads the data of a type from whatever form it is kept in. `None` when this release
            /// does not know the type.
            pub fn read<'de, D: Deserializer<'de>>(
                kind: &str,
                data: D,
            ) -> Option<Result<Self, D::Error>> {
                Some(match kind {
                    $(stringify!($name) => $name::deserialize(data).map(Self::$name),)*
                    _ => return None,
                })
            }

            /// The data, as JSON.
            #[must_use]
            pub fn data(&self) -> String {
                match self {
                    $(Self::$name(data) => {
                        serde_json::to_string(data).expect("an event has string keys only")
                    })*
                }
            }

            /// The JSON Schema of every event's data by type.
            #[must_use]
            pub fn json_schemas() -> Vec<(&'static str, schemars::Schema)> {
                vec![$((stringify!($name), schemars::schema_for!($name))),*]
            }
        }
    };
}
