//! The formats that keys and values are given and asked for in.

use std::str::FromStr;

/// How a key or value stands in JSON.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Format {
    /// Written keys: a JSON string is its UTF-8, other JSON its text. Written values: as `json`.
    /// Read keys: as `string`. Read values: JSON where they are JSON, else a string, else base64.
    #[default]
    Auto,
    /// The JSON text itself, every byte of it.
    Json,
    /// UTF-8 text as a JSON string.
    String,
    /// Any bytes as a base64 string.
    Binary,
}

impl Format {
    /// What a parameter expects, for its error.
    pub const EXPECTED: &'static str = "auto, json, string or binary";

    /// The name in parameters and in `kf` and `vf`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Json => "json",
            Self::String => "string",
            Self::Binary => "binary",
        }
    }
}

impl FromStr for Format {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        match text {
            "auto" => Ok(Self::Auto),
            "json" => Ok(Self::Json),
            "string" => Ok(Self::String),
            "binary" => Ok(Self::Binary),
            _ => Err(()),
        }
    }
}
