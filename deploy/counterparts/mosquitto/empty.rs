// Cargo wants a target; only the source of mosquitto is wanted here.
