-- needs: records states moments

-- Entries of each kind that a claim or a pop corrects at most.
local CORRECTED = 200

-- Correct what a claim or a pop would stumble over.
local function catch_up()
  if is_due() then
    -- needs: correction
    correct(base, CORRECTED)
  end
end
