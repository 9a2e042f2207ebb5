"""One folder or file for each dataset format: how its folders are found and become rows."""
