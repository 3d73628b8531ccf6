//! Each bug of grants, in the smallest model that shows it.

use cairn_model::grant::Grants;

use crate::bugs;

fn one() -> Grants {
    Grants::new(1, 4)
}

bugs! {
    a_primary_that_ignores_its_grant: GrantIgnored
        in one() => WithinGrant;
    taking_before_the_grant_is_renewed: TakeBeforeGranted
        in one() => WithinGrant;
    a_first_grant_that_is_not_charged: ActivationUncharged
        in one() => ChargedExactly;
    a_renewal_that_is_not_charged: RenewalUncharged
        in one() => ChargedExactly;
    two_renewals_that_fit_one_by_one: RenewalCheckedByProposer
        in Grants::new(2, 3) => WithinBound;
    a_renewal_after_the_seal: RenewAfterSeal
        in one() => ChargedExactly;
    a_seal_that_keeps_the_grant: SealKeepsGrant
        in one() => ChargedExactly;
    a_second_seal_that_returns_the_rest_again: SealReturnsTwice
        in Grants::new(2, 3) => ChargedExactly;
    a_rest_returned_before_the_end_is_decided: ReturnBeforeDecided
        in one() => WithinGrant;
    a_fence_without_a_place_on_a_full_disk: FenceNotPreallocated
        in one() => StaysDecidable;
}
