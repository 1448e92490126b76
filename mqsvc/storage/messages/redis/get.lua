-- Messages by id. Gives those that exist, in the order asked for.
-- needs: showing

return cmsgpack.pack(show(base, existing(base, args.ids)))
