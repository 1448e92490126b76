-- Messages by id. Gives those that exist, in the order asked for.

return cmsgpack.pack(show(base, existing(base, args.ids)))
