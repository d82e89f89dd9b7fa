"""Suites: schema, runner, statistics, report and command line."""
