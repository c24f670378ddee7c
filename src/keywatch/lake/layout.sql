-- How DuckLake lays the tables out: a case reads one key over some days, a review some days.
-- Not PARTITIONED BY (day), which doubles the cost of a load: logs come in order of time, so a file
-- covers few days anyhow, and its statistics skip it as well as a partition would.
CALL lake.set_option('parquet_compression', 'zstd');
-- As small as at zstd's usual level, and cheaper.
CALL lake.set_option('parquet_compression_level', '1');
-- Delta encodings: less to write and to read.
CALL lake.set_option('parquet_version', '2');
