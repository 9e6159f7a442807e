"""Write a cohort sheet and a configuration from a folder of slides and a clinical table."""
