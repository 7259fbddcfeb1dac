//! Discovery documents, printed from the registry.
