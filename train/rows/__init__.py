"""What a row is: its shape and fields, however a file spells them."""
