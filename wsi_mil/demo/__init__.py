"""The demo cohort: synthetic slides of real tissue with known lesions, and one real slide."""

from wsi_mil.demo.cohort import create_demo_cohort as create_demo_cohort
