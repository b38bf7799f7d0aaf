//! What the fuzz targets share with the test suite.

pub mod image;
