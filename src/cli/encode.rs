//! `engine encode`: latents of images by a trained autoencoder.

use std::any::Any;
use std::path::PathBuf;

use clap::Args;
use serde_json::json;

use super::args::{DeviceArg, JsonArg, RunFolderArgs, expect_apart, trained, weights_of};
use crate::bar::Bar;
use crate::datasets::npz::{Npz, Numbers, write_arrays};
use crate::datasets::{linkages, mechanisms};
use crate::error::{Error, Result};
use crate::host::Host;
use crate::problem::Problem;
use crate::registry::Config;
use crate::tasks::{DataKind, ImageScorecard, ImagesConfig, Purpose};

/// Latents of images by a trained VAE, with the types, joints and mask of the file
#[derive(Debug, Args)]
pub(super) struct EncodeArgs {
    #[command(flatten)]
    weights: RunFolderArgs,
    /// Images
    #[arg(long, value_name = "FILE.npz")]
    data: PathBuf,
    /// File to write
    #[arg(long, value_name = "OUT.npz")]
    out: PathBuf,
    #[command(flatten)]
    device: DeviceArg,
    #[command(flatten)]
    json: JsonArg,
}

pub(super) fn run(host: &Host, args: EncodeArgs) -> Result<()> {
    let EncodeArgs { weights, data, out, device, json: JsonArg { json } } = args;
    let mut config = Config::of_run(weights.folder()?)?;
    let run = weights.folder()?;
    let none = || Error::Config(format!("{} encodes no images: give a run of model.kind = \"image_vae\"", run.display()));
    if !(config.data.kind() as &dyn Any).is::<ImagesConfig>() {
        return Err(none());
    }
    config.data.on_file(&data)?;
    expect_apart(&out, &[&data], weights.folder()?)?;
    let (problem, session) = trained(host, weights_of(host, &weights)?, Problem::open(&config, Purpose::Test)?, device.device.as_deref())?;
    let scorecard: Box<dyn Any> = problem.scorecard();
    let images = scorecard.downcast_ref::<ImageScorecard>().ok_or_else(none)?;
    let mut npz = Npz::open(&data)?;
    let mut others = Vec::new();
    for name in ["types", "joints", "mask", linkages::MARK] {
        if npz.names().iter().any(|n| n == name) {
            let array = npz.array(name)?;
            mechanisms::check_beside(&data, images.samples(), name, &array)?;
            others.push((name, array.shape, array.values.to_f32()));
        }
    }
    let bar = if json { None } else { Bar::new(host, images.samples() as u64, "images") };
    let (latents, width) = images.encode(&session, |n| bar.iter().for_each(|bar| bar.add(n as u64)))?;
    bar.iter().for_each(Bar::clear);
    let samples = latents.len() / width;
    let whole = |name: &str| name == "types" || name == linkages::MARK;
    let integers: Vec<Vec<i32>> = others.iter().map(|(.., v)| v.iter().map(|t| *t as i32).collect()).collect();
    let shape = [samples, width];
    let mut arrays = vec![("latents", &shape[..], Numbers::F32(&latents))];
    for ((name, shape, values), integers) in others.iter().zip(&integers) {
        arrays.push((name, shape, if whole(name) { Numbers::I32(integers) } else { Numbers::F32(values) }));
    }
    write_arrays(&out, &arrays)?;
    let names: Vec<&str> = arrays.iter().map(|(name, ..)| *name).collect();
    if json {
        return host.print_json(&json!({ "file": out, "samples": samples, "latents": width, "members": names }));
    }
    host.print(&format!("{}: {samples} samples, latents of {width}; members {}", out.display(), names.join(", ")))
}
