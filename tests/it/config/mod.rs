//! The gateway as a process: its settings, its start and its end.
//!
//! - `import`: a gateway runs on what `tidegate config import` made of another gateway's settings
//! - `lifecycle`: from its first line to its last, and what it says about itself in between

mod import;
mod lifecycle;
