/// Makes one `#[tokio::test]` per named rule of a suite; the suites' own macros call it.
#[doc(hidden)]
#[macro_export]
macro_rules! __tests_of {
    ($suite:ident, $harness:expr, $($rule:ident),* $(,)?) => {
        $(
            #[tokio::test]
            async fn $rule() {
                let mut harness = $harness.await;
                $crate::contract::$suite::$rule(&mut harness).await;
            }
        )*
    };
}

/// One test per rule of [`contract::overlay`](crate::contract::overlay); the argument is an expression that gives a
/// future of a new harness.
#[macro_export]
macro_rules! overlay_contract {
    ($harness:expr) => {
        $crate::__tests_of!(
            overlay,
            $harness,
            a_device_is_made_as_planned,
            making_a_device_twice_changes_nothing,
            a_chosen_port_is_kept,
            a_changed_plan_is_applied_in_place,
            removing_an_absent_device_succeeds,
            a_removed_device_leaves_nothing,
            a_refused_device_leaves_nothing,
            a_foreign_link_is_a_conflict_and_stays,
            two_instances_do_not_touch_each_other,
            peers_of_an_absent_device_are_not_found,
            a_peer_is_set_as_planned,
            a_peer_set_twice_is_one_peer,
            a_peer_set_again_has_only_what_the_last_plan_says,
            an_allowed_ip_moves_to_the_peer_that_claims_it,
            changes_apply_in_order,
            a_refused_batch_changes_no_peer,
            removing_an_unknown_peer_succeeds,
            a_new_peer_has_no_endpoint_until_it_speaks,
            re_applying_keeps_what_roaming_taught,
            a_set_endpoint_replaces_the_learned_one,
            a_handshake_is_told_in_wall_clock_time,
            many_peers_are_set_and_listed,
            a_dropped_call_does_not_spoil_the_next,
            a_half_made_device_can_be_removed,
            a_restarted_backend_makes_the_same_device,
            a_restarted_backend_removes_without_memory,
        );
    };
}

/// One test per rule of [`contract::attach`](crate::contract::attach); the argument is an expression that gives a
/// future of a new harness.
#[macro_export]
macro_rules! attach_contract {
    ($harness:expr) => {
        $crate::__tests_of!(
            attach,
            $harness,
            a_network_is_made_as_planned,
            making_a_network_twice_changes_nothing,
            removing_an_absent_network_succeeds,
            a_removed_network_leaves_nothing,
            a_foreign_network_is_a_conflict_and_stays,
            two_instances_do_not_touch_each_other,
            a_container_is_plugged_in_as_planned,
            attaching_twice_changes_nothing,
            members_reach_the_gateway_and_each_other,
            changing_a_network_keeps_its_members,
            a_detached_container_leaves_nothing,
            detaching_what_is_absent_succeeds,
            a_container_that_is_gone_can_be_detached,
            attaching_a_container_that_is_gone_leaves_nothing,
            attaching_to_an_absent_network_leaves_nothing,
            an_attach_with_an_impossible_second_leg_leaves_nothing,
            another_container_under_a_known_handle_is_refused,
            a_target_of_another_platform_is_unsupported,
            what_must_never_be_plugged_in_is_refused,
            a_dropped_attach_does_not_spoil_the_next,
            a_half_made_attachment_can_be_detached,
            a_dropped_network_call_does_not_spoil_the_next,
            a_restarted_backend_sees_and_removes_what_is_ours,
            a_dead_container_is_observed_as_dead,
            many_containers_attach_at_once,
            a_fence_keeps_members_among_themselves,
            a_strict_fence_keeps_others_out,
            members_of_two_isolation_networks_do_not_reach_each_other,
            a_member_reaches_what_its_fence_grants,
            a_fence_put_up_twice_changes_nothing,
            a_fence_can_be_taken_down,
            a_detached_member_is_no_member_any_more,
            a_restarted_backend_keeps_the_fences,
            an_address_is_fenced_observed_and_let_go,
            published_ports_lead_to_their_container,
            withdrawn_ports_lead_nowhere,
            a_port_that_is_taken_is_a_conflict,
        );
    };
}

/// One test per rule of [`contract::dns`](crate::contract::dns); the argument is an expression that gives a future of
/// a new harness.
#[macro_export]
macro_rules! dns_contract {
    ($harness:expr) => {
        $crate::__tests_of!(
            dns,
            $harness,
            names_are_answered_as_planned,
            a_name_without_records_is_answered_empty,
            applying_twice_changes_nothing,
            a_new_plan_replaces_the_old_one,
            a_refused_plan_leaves_the_old_one_answering,
            changed_records_are_answered_beside_the_old_ones,
            changes_of_records_apply_in_order,
            a_refused_change_changes_no_record,
            changes_without_a_plan_are_not_found,
            clearing_stops_answering_and_frees_the_sockets,
            clearing_twice_succeeds,
            a_dropped_apply_does_not_spoil_the_next,
        );
    };
}

/// One test per rule of [`contract::nat`](crate::contract::nat); the argument is an expression that gives a future of a
/// new harness.
#[macro_export]
macro_rules! nat_contract {
    ($harness:expr) => {
        $crate::__tests_of!(
            nat,
            $harness,
            discovery_finds_an_address_of_the_host,
            discovering_twice_finds_the_same,
            a_healthy_peer_is_left_alone,
            a_choice_is_one_of_the_peers_candidates,
            a_peer_without_candidates_gets_no_choice,
            clearing_twice_succeeds,
        );
    };
}
