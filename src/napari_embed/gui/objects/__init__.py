"""Objects in their picture: colours, clicks and jumps between map and labels layer."""
