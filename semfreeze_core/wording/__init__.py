"""Records in words: numbers, sentences and table rows that the terminal, the pages and the report share."""
