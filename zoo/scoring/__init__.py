"""Batch scoring of files of any size, as an Apache Beam pipeline around a SavedModel.

files.py     which files there are, of which format, what is finished
sources.py   files -> batches of rows, by csv_records.py where rows are CSV; rows.py is a row
model.py     batches of rows -> answers, in Beam's RunInference
runs.py      answers -> sorted runs on disk, which are merged into an input's outputs
outputs.py   what an input's outputs are called, and how they are written
pipeline.py  all of it, one after the other; plain_loop.py is what its speed is held against
"""
