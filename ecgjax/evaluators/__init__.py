"""What can be found out about a model and data, one file each.

`evaluate(run) -> Finding` of a file is given a `run.Run`; it may have `OPTIONS`
(name -> default), `check(options, model)`, called before any data are opened,
and `check_data(options, data)`, called before anything is computed. Imports
`model`, `data`, `metrics`, `report` and what is below.
"""
