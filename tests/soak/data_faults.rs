//! What operators do, and keys that are lost.

use fastrand::Rng;
use tokio::time::{Instant, sleep};

use crate::names::{Kind, NAMES};
use crate::scene::{Deck, Scene, ms};

#[derive(Clone, Copy)]
enum OfData {
    Kick,
    KickNow,
    LimitMoved,
    LimitZero,
    Queue,
    Clients,
    Meta,
    Permits,
    Evicted,
}

const OF_DATA: [OfData; 11] = [
    // More than one, since few of those who are kicked would hold for long enough that it shows.
    OfData::Kick,
    OfData::Kick,
    OfData::Kick,
    OfData::KickNow,
    OfData::LimitMoved,
    OfData::LimitZero,
    OfData::Queue,
    OfData::Clients,
    OfData::Meta,
    OfData::Permits,
    OfData::Evicted,
];

pub async fn data_storm(scene: &Scene, end: Instant, mut random: Rng) {
    let mut deck = Deck::new(&OF_DATA);
    loop {
        sleep(ms(&mut random, 100..900)).await;
        let kind = deck.draw(&mut random);
        let mut random = random.fork();
        if Instant::now() >= end {
            break;
        }
        if let Some(name) = strike_data(kind, scene, &mut random).await {
            scene.done(name, None);
        }
    }
    for name in NAMES.iter().filter(|name| name.kind == Kind::Moved) {
        scene.operator.move_limit(&scene.witness, name.name, None).await;
    }
}

/// None if there was nothing to strike.
async fn strike_data(kind: OfData, scene: &Scene, random: &mut Rng) -> Option<&'static str> {
    let (operator, witness) = (&scene.operator, &scene.witness);
    let name = random.choice(&NAMES)?.name;
    match kind {
        OfData::Kick => kick_of_each(scene, false, random).await.then_some("kicked"),
        OfData::KickNow => kick_of_each(scene, true, random).await.then_some("kicked at once"),
        OfData::LimitMoved => {
            operator.move_limit(witness, "moved", Some(random.u32(4..14))).await;
            sleep(ms(random, 200..1_500)).await;
            if random.bool() {
                operator.move_limit(witness, "moved", None).await;
            }
            Some("limit moved")
        }
        OfData::LimitZero => {
            operator.move_limit(witness, "moved", Some(0)).await;
            sleep(ms(random, 200..1_500)).await;
            operator.move_limit(witness, "moved", None).await;
            Some("limit set to 0")
        }
        OfData::Queue => {
            operator.delete(witness, name, "queue").await;
            Some("`queue` deleted")
        }
        OfData::Clients => {
            operator.delete(witness, name, "clients").await;
            Some("`clients` deleted")
        }
        OfData::Meta => {
            operator.delete(witness, name, "meta").await;
            Some("`meta` deleted")
        }
        OfData::Permits => {
            operator.delete(witness, name, "permits").await;
            Some("`permits` deleted")
        }
        OfData::Evicted => operator.evict(witness).await.then_some("keys evicted"),
    }
}

/// Kicks a holder of each name, if it has one.
async fn kick_of_each(scene: &Scene, at_once: bool, random: &mut Rng) -> bool {
    let mut hit = false;
    for name in &NAMES {
        hit |= scene.operator.kick_one(&scene.witness, name.name, at_once, random).await;
    }
    hit
}
