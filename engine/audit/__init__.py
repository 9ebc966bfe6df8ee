"""Reading training code for silent bugs: what lowers a loss, or hides that it is wrong, without an error to show for it."""
