"""Pipelines on a Prefect server, in source trees and in blob stores."""
