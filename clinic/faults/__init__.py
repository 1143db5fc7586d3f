"""Ways to spoil a healthy setting: its weights, its network, its loss, its data. `clinic.sick` puts them to use."""
