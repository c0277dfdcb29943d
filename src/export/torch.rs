//! stub
use std::path::Path;
use super::model::Exported;
use crate::error::Result;
impl Exported { 
/// x
pub fn write_torch(&self, _a: &Path, _b: &Path) -> Result<()> { Ok(()) } }
