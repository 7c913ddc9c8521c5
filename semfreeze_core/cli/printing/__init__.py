"""What commands print: tables and sentences for a terminal, documents for --json."""
