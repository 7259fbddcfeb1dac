//! `Form`: how a client wants to see what it asked for, as its Accept header says (`apiserver::negotiate` reads it).

/// The encoding of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    #[default]
    Json,
    Yaml,
    Protobuf,
}

impl Format {
    /// In the order in which a server names them.
    pub const ALL: [Format; 3] = [Format::Json, Format::Yaml, Format::Protobuf];

    pub fn media_type(self) -> &'static str {
        match self {
            Format::Json => "application/json",
            Format::Yaml => "application/yaml",
            Format::Protobuf => crate::protobuf::MEDIA_TYPE,
        }
    }
}

/// Which view of the objects is wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Shape {
    #[default]
    Object,
    Table,
    /// PartialObjectMetadata(List).
    Metadata,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Form {
    pub format: Format,
    pub shape: Shape,
    /// Tables and metadata name `meta.k8s.io/v1beta1` as their version.
    pub is_beta: bool,
    /// JSON in lines, for people.
    pub pretty: bool,
}

impl Form {
    /// The version of Tables and metadata.
    pub fn meta_version(self) -> &'static str {
        if self.is_beta { "meta.k8s.io/v1beta1" } else { "meta.k8s.io/v1" }
    }
}
