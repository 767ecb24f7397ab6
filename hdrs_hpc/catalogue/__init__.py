"""What varies: each variant is one file or one row here, and stands in no list elsewhere."""
