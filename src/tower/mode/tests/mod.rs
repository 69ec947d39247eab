mod cooldown;
