//! Columns of `kubectl get` and the small constructors by which kinds declare them.

use serde_json::Value;
use stead_api::Object;

/// A function that prints a cell; the second argument is now.
pub type CellFn = fn(&Object, jiff::Timestamp) -> Value;

pub const NAME_COLUMN: Column = Column {
    name: "Name",
    r#type: "string",
    format: "name",
    description: "Name must be unique within a namespace.",
    priority: 0,
    cell: Cell::Name,
};

pub const AGE_COLUMN: Column = Column {
    name: "Age",
    r#type: "string",
    format: "",
    description: "Time since the object was made.",
    priority: 0,
    cell: Cell::Age,
};

pub const DEFAULT_COLUMNS: &[Column] = &[NAME_COLUMN, AGE_COLUMN];

/// A text column read from a dotted path.
pub const fn path(name: &'static str, path: &'static str, description: &'static str) -> Column {
    Column { name, r#type: "string", format: "", description, priority: 0, cell: Cell::Path(path) }
}

/// A text column that is computed.
pub const fn text(name: &'static str, cell: CellFn, description: &'static str) -> Column {
    Column { name, r#type: "string", format: "", description, priority: 0, cell: Cell::Of(cell) }
}

/// A number that is computed.
pub const fn integer(name: &'static str, cell: CellFn, description: &'static str) -> Column {
    Column { name, r#type: "integer", format: "", description, priority: 0, cell: Cell::Of(cell) }
}

/// The same column, shown with `-o wide` only.
pub const fn wide(column: Column) -> Column {
    Column { priority: 1, ..column }
}

/// The moment of creation, for kinds whose age says little.
pub const CREATED_AT_COLUMN: Column = Column {
    name: "Created At",
    r#type: "date",
    format: "",
    description: "When the object was made.",
    priority: 0,
    cell: Cell::Of(|object, _| {
        let text = object.meta.creation_timestamp.map(|at| at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        text.unwrap_or_default().into()
    }),
};

/// A column of `kubectl get`.
#[derive(Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub r#type: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    pub description: &'static str,
    /// Above zero it is shown with `-o wide` only.
    pub priority: i32,
    pub cell: Cell,
}

#[derive(Clone, Copy)]
pub enum Cell {
    Name,
    /// Time since `metadata.creationTimestamp`.
    Age,
    /// A dotted path; missing values print as `<none>`.
    Path(&'static str),
    /// A JSONPath of a custom resource's column, without braces.
    JsonPath(&'static str),
    /// Anything else. The second argument is now.
    Of(fn(&Object, jiff::Timestamp) -> Value),
}
