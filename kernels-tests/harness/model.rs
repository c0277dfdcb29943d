//! The oracle for whole models.
