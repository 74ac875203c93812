"""What a client does, step by step: giving, bringing up, looking, keeping, taking down."""
