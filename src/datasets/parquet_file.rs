//! Tables in Parquet files.

use std::path::Path;

use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;

use super::columns::{Column, Columns};
use super::open_regular;
use crate::error::{Error, Result};

/// Reads a Parquet file: columns of numbers, of which a null is NaN, and of text. A column of something else is an error for whoever reads
/// it.
///
/// # Errors
/// As `Table::open`.
pub(super) fn read_parquet(path: &Path) -> Result<Columns> {
    let source = path.display().to_string();
    let failed = |e: parquet::errors::ParquetError| {
        Error::Data(format!("{source} is no usable .parquet file: {e}. Plain, snappy and gzip are read"))
    };
    let reader = SerializedFileReader::new(open_regular(path, "a .parquet")?).map_err(failed)?;
    let schema = reader.metadata().file_metadata().schema();
    let names: Vec<String> = schema.get_fields().iter().map(|field| field.name().to_string()).collect();
    let mut columns: Vec<Column> = names.iter().map(|_| Column::default()).collect();
    for (number, row) in reader.get_row_iter(None).map_err(failed)?.enumerate() {
        let row = row.map_err(failed)?;
        for ((name, field), column) in row.get_column_iter().zip(&mut columns) {
            // Rows count from 0, as in predictions.
            let why = |why: &str| format!("row {number}, column `{name}`: {why}");
            let take = |column: &mut Column| match field {
                Field::Bool(value) => column.take_number(f32::from(u8::from(*value)), false),
                Field::Byte(value) => column.take_number(f32::from(*value), false),
                Field::Short(value) => column.take_number(f32::from(*value), false),
                Field::Int(value) => column.take_number(*value as f32, false),
                Field::Long(value) => column.take_number(*value as f32, false),
                Field::UByte(value) => column.take_number(f32::from(*value), false),
                Field::UShort(value) => column.take_number(f32::from(*value), false),
                Field::UInt(value) => column.take_number(*value as f32, false),
                Field::ULong(value) => column.take_number(*value as f32, false),
                Field::Float16(value) => column.take_number(value.to_f32(), true),
                Field::Float(value) => column.take_number(*value, true),
                Field::Double(value) => column.take_number(*value as f32, true),
                Field::Str(text) => column.take_word(text),
                _ => Err("it is neither a number nor text. Leave the column out, or convert it".into()),
            };
            match field {
                Field::Null => column.take_hole(why),
                _ => column.keep(take, why),
            }
        }
    }
    Ok(names.into_iter().zip(columns).collect())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
    use parquet::file::writer::SerializedFileWriter;
    use parquet::schema::parser::parse_message_type;

    use super::super::columns::{Element, TableValues};
    use super::*;

    #[test]
    fn columns_are_those_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t.parquet");
        let schema = "message t { required int64 a; required double b; required binary c (UTF8); optional double d; }";
        let schema = Arc::new(parse_message_type(schema).unwrap());
        let mut writer = SerializedFileWriter::new(std::fs::File::create(&path).unwrap(), schema, Arc::default()).unwrap();
        let mut group = writer.next_row_group().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<Int64Type>().write_batch(&[1, 2], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[0.5, 2.0], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<ByteArrayType>().write_batch(&[ByteArray::from("x"), ByteArray::from("y")], None, None).unwrap();
        column.close().unwrap();
        let mut column = group.next_column().unwrap().unwrap();
        column.typed::<DoubleType>().write_batch(&[3.5], Some(&[1, 0]), None).unwrap();
        column.close().unwrap();
        group.close().unwrap();
        writer.close().unwrap();
        let mut read = read_parquet(&path).unwrap();
        let (element, rows, values) = read.pop().unwrap().1.finish();
        let Ok(TableValues::Numbers(values)) = values else { panic!("{values:?}") };
        assert!((element, rows, values[0]) == (Element::Float, 2, 3.5) && values[1].is_nan());
        std::fs::write(&path, "no parquet").unwrap();
        assert_eq!(read_parquet(&path).unwrap_err().exit_code(), 65);
        let mut column = Column::default();
        column.keep(|column| column.take_number(2.0, true), |why| why.into());
        assert_eq!(column.finish(), (Element::Float, 1, Ok(TableValues::Numbers(vec![2.0]))));
    }
}
